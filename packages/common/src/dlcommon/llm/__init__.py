"""Large language models: architecture, tokenizers, attention, quantization, inference (phase 12 of the course)."""
