"""A Transformer that translates sentences."""
