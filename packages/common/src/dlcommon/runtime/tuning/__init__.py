"""Hyper-parameter search over a capstone's declared space, with Optuna."""
