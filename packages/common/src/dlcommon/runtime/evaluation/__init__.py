"""Metrics with their uncertainty, and figures."""
