"""Large language models: architecture, tokenizers, attention kernels, quantization, inference (phase 12 of the course)."""
