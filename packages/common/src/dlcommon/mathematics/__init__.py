"""Mathematics of deep learning in NumPy: linear algebra, differentiation, probability, information."""
