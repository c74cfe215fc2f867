"""Heat maps and how they are decoded: against loops, exact Gaussians, SciPy's gradient and autograd's check."""

import pytest
import torch
from dlcommon.vision.heatmaps import dark_decode, gaussian_heatmaps, heatmap_argmax, quarter_offset, soft_argmax

SUBPIXEL = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 9 + 3


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_gaussian_heatmaps_are_the_formula_of_each_pixel() -> None:
    points = torch.tensor([[[2.0, 1.0], [0.3, 3.6]]], dtype=torch.float64)
    maps = gaussian_heatmaps(points, 5, 7, sigma=1.5)
    assert maps.shape == (1, 2, 5, 7)
    for point in range(2):
        for row in range(5):
            for column in range(7):
                squared = (points[0, point] - torch.tensor([column, row])).square().sum()
                torch.testing.assert_close(maps[0, point, row, column], torch.exp(-squared / (2 * 1.5**2)))
    assert maps[0, 0, 1, 2] == 1
    assert heatmap_argmax(maps)[0].tolist() == [[[2, 1], [0, 4]]]


def test_soft_argmax_is_the_mean_position_in_value_and_gradient() -> None:
    logits = random(2, 3, 4, 5).requires_grad_()
    found = soft_argmax(logits, beta=2.0)
    weights = (2 * logits).exp()
    for axis, size in ((0, 5), (1, 4)):
        position = torch.arange(size, dtype=torch.float64)
        position = position if axis == 0 else position[:, None]
        expected = (weights * position).sum((-2, -1)) / weights.sum((-2, -1))
        torch.testing.assert_close(found[..., axis], expected)
    (gradient,) = torch.autograd.grad(found[..., 0].sum(), logits, retain_graph=True)
    p = (2 * logits).flatten(-2).softmax(-1).view_as(logits)
    torch.testing.assert_close(gradient, 2 * p * (torch.arange(5) - found[..., 0, None, None]))
    torch.autograd.gradcheck(soft_argmax, (random(1, 3, 3).requires_grad_(),))


def test_a_sharper_softmax_brings_soft_argmax_to_the_argmax() -> None:
    maps = random(6, 8, 8)
    torch.testing.assert_close(soft_argmax(maps, beta=1e4), heatmap_argmax(maps)[0], rtol=0, atol=1e-4)


def test_dark_finds_the_peak_of_a_gaussian_exactly() -> None:
    maps = gaussian_heatmaps(SUBPIXEL, 16, 16, sigma=1.7)
    torch.testing.assert_close(dark_decode(maps), SUBPIXEL, rtol=0, atol=1e-9)
    assert (heatmap_argmax(maps)[0] - SUBPIXEL).abs().max() > 0.4


def test_dark_is_a_newton_step_of_an_oblique_quadratic() -> None:
    hessian = torch.tensor([[-0.8, 0.3], [0.3, -0.5]], dtype=torch.float64)
    peak = torch.tensor([4.2, 3.7], dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    offsets = torch.stack((columns, rows), dim=-1).double() - peak
    log = torch.einsum("hwi,ij,hwj->hw", offsets, hessian, offsets) / 2
    torch.testing.assert_close(dark_decode(log.exp()), peak)


def test_quarter_offset_moves_toward_the_higher_neighbor() -> None:
    points = torch.tensor([[4.2, 6.4], [4.2, 5.6], [3.9, 6.0]], dtype=torch.float64)
    expected = torch.tensor([[4.25, 6.25], [4.25, 5.75], [3.75, 6.0]], dtype=torch.float64)
    maps = gaussian_heatmaps(points, 12, 12, sigma=1.0)
    maps[2, 5, 4] = maps[2, 7, 4]  # equal to the last bit, so that y stays
    torch.testing.assert_close(quarter_offset(maps), expected)


@pytest.mark.parametrize("decode", [dark_decode, quarter_offset])
@pytest.mark.parametrize("corner", [(0.0, 0.0), (6.0, 4.0), (6.0, 0.0), (0.0, 2.0)])
def test_peaks_at_the_edge_stay_where_they_are(decode: type, corner: tuple[float, float]) -> None:
    maps = gaussian_heatmaps(torch.tensor([[corner]]), 5, 7, sigma=1.0)
    assert decode(maps)[0, 0].tolist() == list(corner)


@pytest.mark.parametrize("decode", [dark_decode, quarter_offset])
def test_flat_maps_stay_and_small_ones_are_refused(decode: type) -> None:
    flat = torch.zeros(2, 5, 5)
    flat[:, 2, 2] = 1e-12  # the highest, but the logarithm is flat
    moved = decode(flat[0])
    assert moved.shape == (2,)
    assert moved.tolist() == [2.0, 2.0]
    with pytest.raises(ValueError, match="2×9 pixels"):
        decode(torch.zeros(1, 2, 9))
