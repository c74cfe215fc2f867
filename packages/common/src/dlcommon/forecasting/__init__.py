"""Forecasting of time series: forecasters, backtests without leaks, and tests of whether one forecast beats another.

Values are float64 [time]. An origin is the index of the last value that a forecast may know. Forecasts are quantiles
[origins, horizon, levels], in the units of the series, for the steps 1 to `horizon` after the origin.
"""
