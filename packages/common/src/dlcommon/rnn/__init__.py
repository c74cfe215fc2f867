"""Recurrent networks, attention between them, and sequence-to-sequence models."""
