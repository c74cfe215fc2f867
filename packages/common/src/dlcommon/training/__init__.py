"""Training techniques: schedules, averaging, optimizers (phase 9 of the course)."""
