"""Recurrent networks (phase 6 of the course)."""
