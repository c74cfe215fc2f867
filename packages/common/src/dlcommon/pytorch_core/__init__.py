"""PyTorch's core from scratch: modules, losses, optimizers, data loading and augmentation."""
