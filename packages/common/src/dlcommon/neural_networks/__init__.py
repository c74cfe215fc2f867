"""Multilayer perceptrons, and what training them takes: activations, initialization, normalization, regularization."""
