"""A generative adversarial network that draws faces."""
