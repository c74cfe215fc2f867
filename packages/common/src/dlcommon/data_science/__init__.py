"""Preparation of data with NumPy and pandas before a model sees it."""
