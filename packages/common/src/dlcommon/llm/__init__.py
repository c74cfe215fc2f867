"""Large language models: architecture, tokenizers, attention kernels, quantization, inference (course phase 12)."""
