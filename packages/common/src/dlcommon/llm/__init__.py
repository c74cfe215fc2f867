"""Large language models: architecture, tokenizers, attention kernels, quantization, inference (phase 12)."""
