"""Handwritten digits, drawn with the mouse or the finger and read by a network trained from scratch."""
