"""Convolutional networks (phase 5 of the course)."""
