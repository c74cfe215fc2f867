"""Training techniques: schedules, weight averaging, optimizers, calibration."""
