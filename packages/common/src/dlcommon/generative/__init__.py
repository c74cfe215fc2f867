"""Generative models: adversarial networks, autoencoders and diffusion (phase 8 of the course)."""
