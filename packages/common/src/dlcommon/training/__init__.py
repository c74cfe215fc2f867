"""Training techniques: schedules, optimizers, gradient clipping, weight averaging, calibration, several processes."""
