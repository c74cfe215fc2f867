"""PyTorch core: tensors, autograd, data, augmentation (phase 3 of the course)."""
