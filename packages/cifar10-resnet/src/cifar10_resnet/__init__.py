"""CIFAR-10 from scratch to 91 % and beyond on two CPU cores, with residual networks."""
