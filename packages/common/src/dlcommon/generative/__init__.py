"""Generative models: adversarial networks, autoencoders, diffusion."""
