"""An adapter as one matrix [rank, size]: the form in which graphs take it, and in which several are put together."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SCALE, ADAPTER = "lora_scale", "adapter"
"""Names of the graph's inputs."""


@dataclass(frozen=True)
class AdapterLayout:
    """States which columns of the matrix belong to which layer: the row of A, then the column of scaling · B."""

    layers: tuple[tuple[str, int, int], ...]
    """Name, inputs and outputs of each adapted layer."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _, _ in self.layers)

    @property
    def sizes(self) -> list[int]:
        """Widths of the parts, two for each layer."""
        return [size for _, inputs, outputs in self.layers for size in (inputs, outputs)]

    def to_json(self) -> str:
        return json.dumps(self.layers)

    @classmethod
    def from_json(cls, text: str) -> "AdapterLayout":
        return cls(tuple((str(name), int(inputs), int(outputs)) for name, inputs, outputs in json.loads(text)))

    def holds(self, other: "AdapterLayout") -> bool:
        """Tells whether all layers of the other are in this one."""
        return set(other.layers) <= set(self.layers)

    def widened(self, matrix: np.ndarray, own: "AdapterLayout") -> np.ndarray:
        """Returns an adapter of fewer layers in this layout, [rank, size]: zeros for the others, which change nothing.

        Args:
            matrix: in its own layout, [rank, its size].
            own: that layout, which this one `holds`.
        """
        if own == self:
            return matrix
        starts = dict(zip(own.names, np.cumsum([0, *(i + o for _, i, o in own.layers)])[:-1], strict=True))
        parts = [
            matrix[:, starts[name] : starts[name] + inputs + outputs]
            if name in starts
            else np.zeros((len(matrix), inputs + outputs), matrix.dtype)
            for name, inputs, outputs in self.layers
        ]
        return np.concatenate(parts, axis=1)


def stacked(matrices: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Puts adapters on top of each other.

    Returns:
        The matrix [all ranks, size], and for each adapter its `lora_scale`, float32 [all ranks]: ones for its own rows.
    """
    ends = np.cumsum([len(matrix) for matrix in matrices])
    scales = []
    for matrix, end in zip(matrices, ends, strict=True):
        scale = np.zeros(int(ends[-1]), np.float32)
        scale[end - len(matrix) : end] = 1
        scales.append(scale)
    return np.concatenate(matrices), scales
