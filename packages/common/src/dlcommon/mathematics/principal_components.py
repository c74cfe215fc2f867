"""Principal component analysis (Pearson 1901; Hotelling 1933)."""

from dataclasses import dataclass

import numpy as np

from dlcommon.mathematics.decompositions import randomized_svd


@dataclass(frozen=True)
class PrincipalComponents:
    """The directions of largest variance of some samples, which are orthonormal, and the variances along them."""

    mean: np.ndarray
    """[features]."""
    directions: np.ndarray
    """[components, features], largest variance first."""
    variances: np.ndarray
    """[components]."""

    @classmethod
    def fit(cls, samples: np.ndarray, components: int, random: np.random.Generator) -> "PrincipalComponents":
        """From the singular values of the centred samples [n, features]: the covariance matrix is not needed."""
        mean = samples.mean(axis=0)
        _, values, directions = randomized_svd(samples - mean, components, random)
        return cls(mean, directions, values**2 / (len(samples) - 1))

    def coordinates(self, samples: np.ndarray) -> np.ndarray:
        """[n, features] to [n, components]."""
        return (samples - self.mean) @ self.directions.T

    def reconstruct(self, coordinates: np.ndarray) -> np.ndarray:
        """[n, components] to the nearest samples [n, features] that the components can make."""
        return coordinates @ self.directions + self.mean
