"""Transformers and their building blocks."""
