"""The mathematics of deep learning in NumPy (phase 2 of the course)."""
