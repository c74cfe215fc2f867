"""A BERT that tells positive from negative sentences."""
