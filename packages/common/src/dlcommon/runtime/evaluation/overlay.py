"""Draws evidence over a picture."""

import numpy as np
from PIL import Image


def heat_overlay(picture: np.ndarray, evidence: np.ndarray, size: int) -> np.ndarray:
    """Enlarges a picture and darkens it where there is no evidence.

    Args:
        picture: uint8 [height, width, 3].
        evidence: [rows, columns] of any range; empty leaves the picture as it is.
        size: side of the result in pixels.

    Returns:
        uint8 [size, size, 3].
    """
    large = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.NEAREST), dtype=np.float32)
    if not evidence.size:
        return large.astype(np.uint8)
    low, high = float(evidence.min()), float(evidence.max())
    scaled = ((evidence - low) / (high - low if high > low else 1.0)).astype(np.float32)
    smooth = Image.fromarray(scaled).resize((size, size), Image.Resampling.BICUBIC)
    weight = np.asarray(smooth)[:, :, None].clip(0, 1)
    glow = np.array([255.0, 140.0, 0.0], dtype=np.float32)
    return (large * (0.35 + 0.65 * weight) * (1 - 0.25 * weight) + 0.25 * weight * glow).clip(0, 255).astype(np.uint8)
