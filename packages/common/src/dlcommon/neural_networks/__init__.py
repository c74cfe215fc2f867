"""Neural networks from the ground up (phase 4 of the course)."""
