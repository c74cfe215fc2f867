"""Principal component analysis (Pearson 1901; Hotelling 1933)."""

from dataclasses import dataclass

import numpy as np

from dlcommon.mathematics.decompositions import randomized_svd


@dataclass(frozen=True)
class PCA:
    """Holds the orthonormal directions of largest variance of samples, with scikit-learn's names."""

    mean: np.ndarray
    """[features]."""
    components: np.ndarray
    """Directions, [n_components, features], largest variance first."""
    explained_variance: np.ndarray
    """Variance along each, [n_components]."""

    @classmethod
    def fit(cls, samples: np.ndarray, n_components: int, rng: np.random.Generator) -> "PCA":
        """Finds the components of samples [n, features] from singular values, without the covariance matrix."""
        mean = samples.mean(axis=0)
        _, values, components = randomized_svd(samples - mean, n_components, rng)
        return cls(mean, components, values**2 / (len(samples) - 1))

    def transform(self, samples: np.ndarray) -> np.ndarray:
        """Projects samples [n, features] onto the components: [n, n_components]."""
        result: np.ndarray = (samples - self.mean) @ self.components.T
        return result

    def inverse_transform(self, coordinates: np.ndarray) -> np.ndarray:
        """Reconstructs samples [n, features] from their coordinates [n, n_components]."""
        result: np.ndarray = coordinates @ self.components + self.mean
        return result
