"""Part affinity fields: which elbow belongs to which shoulder when several people are in the picture."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment


def part_affinity_field(start: torch.Tensor, end: torch.Tensor, height: int, width: int, radius: float) -> torch.Tensor:
    """Draws the unit vector of a limb on all pixels near it (Cao et al. 2017, section 2.3).

    https://arxiv.org/abs/1611.08050.

    Args:
        start: one end of the limb (x, y), [2].
        end: the other end, [2].
        height: rows of the field.
        width: its columns.
        radius: how far from the line between the ends the limb reaches, in pixels.

    Returns:
        [2, height, width], the x component first; 0 off the limb.

    Raises:
        ValueError: the ends are the same point, so that there is no direction.
    """
    length = (end - start).norm()
    if length == 0:
        raise ValueError("both ends of the limb are the same point; a limb needs a direction")
    direction = (end - start) / length
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=start.dtype), torch.arange(width, dtype=start.dtype), indexing="ij"
    )
    from_start = torch.stack((columns, rows), dim=-1) - start  # [height, width, 2]
    along = from_start @ direction
    across = (from_start[..., 0] * direction[1] - from_start[..., 1] * direction[0]).abs()
    on_limb = (along >= 0) & (along <= length) & (across <= radius)
    field: torch.Tensor = direction[:, None, None] * on_limb
    return field


def limb_score(field: torch.Tensor, start: torch.Tensor, end: torch.Tensor, samples: int = 10) -> torch.Tensor:
    """Integrates the field along the line between two candidate ends (Cao et al. 2017, section 2.3).

    Args:
        field: [2, height, width].
        start: (x, y), [2].
        end: (x, y), [2].
        samples: number of points on the line, at which the nearest pixel is read.

    Returns:
        The mean product with the line's direction: 1 if the field points along it everywhere, 0 off any limb.
    """
    direction = (end - start) / (end - start).norm().clamp(min=1e-8)
    steps = torch.linspace(0, 1, samples, dtype=start.dtype)[:, None]
    points = (start + steps * (end - start)).round().long()  # [samples, 2]
    x, y = points[:, 0].clamp(0, field.size(2) - 1), points[:, 1].clamp(0, field.size(1) - 1)
    score: torch.Tensor = (field[:, y, x].T @ direction).mean()
    return score


def match_limbs(
    field: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, minimum: float = 0.1
) -> list[tuple[int, int]]:
    """Pairs candidate ends so that the sum of their scores is largest.

    Args:
        field: of all people's limbs of this kind, [2, height, width].
        starts: candidates of one end, [starts, 2].
        ends: candidates of the other, [ends, 2].
        minimum: pairs that score less are dropped.

    Returns:
        Pairs of a number in `starts` and one in `ends`, sorted.
    """
    scores = np.array([[limb_score(field, start, end).item() for end in ends] for start in starts])
    rows, columns = linear_sum_assignment(scores.reshape(len(starts), len(ends)), maximize=True)
    return [
        (int(row), int(column)) for row, column in zip(rows, columns, strict=True) if scores[row, column] >= minimum
    ]
