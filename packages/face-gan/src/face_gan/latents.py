"""Noise by seed, and what a model's file says about its latent space.

Shapes: noise [batch, blocks, dim], where a block is a stretch of the generator's layers, coarse ones first.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from dlcommon.runtime.arrays import Arrays

LARGEST_SEED = 2**63 - 1
COMPONENTS = 10
"""Directions of the latent space that a model offers."""


@dataclass(frozen=True)
class Latents:
    """Describes a generator's inputs."""

    blocks: int
    """Parts of the generator that may each get a noise of their own; 1 where styles cannot be mixed."""
    dim: int
    """Numbers of one noise vector."""

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "Latents":
        """Reads them from a model's metadata."""
        blocks, dim = metadata["latents"].split()
        return cls(int(blocks), int(dim))

    def __str__(self) -> str:
        return f"{self.blocks} {self.dim}"

    def noise(self, seed: int) -> np.ndarray:
        """Draws the noise of a seed, the same in every block: float32 [blocks, dim]; always the same."""
        drawn = np.random.Generator(np.random.Philox(seed)).standard_normal(self.dim, np.float32)
        return np.broadcast_to(drawn, (self.blocks, self.dim))

    def inputs(self, noise: np.ndarray, truncation: float = 1.0) -> Arrays:
        """Returns a model's inputs for a batch of noise [batch, blocks, dim]."""
        batch = len(noise)
        return {
            "noise": np.array(noise, np.float32),  # a copy: views of broadcast arrays cannot be written to
            "truncation": np.full(batch, truncation, np.float32),
            "components": np.zeros((batch, COMPONENTS), np.float32),
        }

    def sample(self, batch: int, seed: int) -> np.ndarray:
        """Draws other noise for each picture: float32 [batch, blocks, dim]."""
        drawn = np.random.Generator(np.random.Philox(seed)).standard_normal((batch, 1, self.dim), np.float32)
        return np.broadcast_to(drawn, (batch, self.blocks, self.dim))


def interpolated(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Walks on the sphere from one noise to another (White 2016, https://arxiv.org/abs/1609.04468).

    Noise of many dimensions has almost always the same length, which the straight line between two would leave.

    Args:
        first: [blocks, dim], each block by itself.
        second: likewise.
        share: of the way, 0 is the first and 1 the second.
    """
    one, other = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (first, second))
    angle = np.arccos(np.clip((one * other).sum(axis=-1, keepdims=True), -1, 1))
    if np.any(np.sin(angle) < 1e-4):  # equal, or opposite
        walked: np.ndarray = (1 - share) * first + share * second
    else:
        walked = (np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle)
    return walked.astype(np.float32)
