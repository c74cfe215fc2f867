"""Foundations of the course, from scratch, and the runtime that every capstone stands on.

Importing this package loads nothing heavy: torch, gradio and onnxruntime are imported where they are used.
"""

__version__ = "0.1.0"
