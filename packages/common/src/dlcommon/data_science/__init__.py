"""What NumPy and pandas are used for before a model sees the data (phase 1 of the course)."""
