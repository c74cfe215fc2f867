"""Part affinity fields: where they are drawn, what a line through them scores, and who is paired with whom."""

import pytest
import torch
from dlcommon.vision.part_affinity import limb_score, match_limbs, part_affinity_field
from dlcommon.vision.stick_figures import draw_segments, generate_stick_figures


def test_the_field_is_the_unit_vector_on_the_limb_and_zero_off_it() -> None:
    field = part_affinity_field(torch.tensor([2.0, 3.0]), torch.tensor([8.0, 3.0]), 8, 12, radius=1.0)
    expected = torch.zeros(2, 8, 12)
    expected[0, 2:5, 2:9] = 1.0
    assert torch.equal(field, expected)
    oblique = part_affinity_field(torch.tensor([1.0, 1.0]), torch.tensor([4.0, 5.0]), 8, 8, radius=0.6)
    torch.testing.assert_close(oblique[:, 5, 4], torch.tensor([0.6, 0.8]))
    with pytest.raises(ValueError, match="same point"):
        part_affinity_field(torch.ones(2), torch.ones(2), 8, 8, radius=1.0)


def test_the_score_is_one_along_the_limb_and_changes_sign_with_the_direction() -> None:
    start, end = torch.tensor([2.0, 3.0]), torch.tensor([9.0, 6.0])
    field = part_affinity_field(start, end, 12, 12, radius=1.5)
    assert limb_score(field, start, end).item() == pytest.approx(1.0)
    assert limb_score(field, end, start).item() == pytest.approx(-1.0)
    assert limb_score(field, torch.tensor([1.0, 9.0]), torch.tensor([4.0, 11.0])).item() == 0
    assert limb_score(field, start, start).item() == 0


def test_crossing_limbs_are_paired_by_the_field_where_the_nearest_end_is_the_wrong_one() -> None:
    starts = torch.tensor([[2.0, 2.0], [2.0, 9.0]])
    ends = torch.tensor([[20.0, 10.0], [20.0, 1.0]])  # the limbs cross
    fields = [part_affinity_field(start, end, 12, 24, radius=1.0) for start, end in zip(starts, ends, strict=True)]
    assert torch.cdist(starts, ends).argmin(dim=1).tolist() == [1, 0]
    assert match_limbs(fields[0] + fields[1], starts, ends) == [(0, 0), (1, 1)]
    assert match_limbs(fields[0], starts, ends) == [(0, 0)]  # the other limb is not in the picture
    assert match_limbs(fields[0], starts, torch.zeros(0, 2)) == []


def test_segments_are_brightest_on_the_line_and_fade_with_the_distance() -> None:
    picture = draw_segments(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[6.0, 2.0]]]), 8, 0.7)[0]
    assert picture[2, 1:7].tolist() == [1.0] * 6
    assert picture[3, 3].item() == pytest.approx(torch.exp(torch.tensor(-1 / (2 * 0.49))).item())
    assert picture[2, 7] == picture[2, 0] == picture[1, 1]  # the ends are round


def test_figures_are_repeatable_inside_the_picture_and_bright_at_their_keypoints() -> None:
    figures = generate_stick_figures(50, torch.Generator().manual_seed(3), noise=0.0)
    again = generate_stick_figures(50, torch.Generator().manual_seed(3), noise=0.0)
    assert torch.equal(figures.images, again.images)
    assert figures.images.shape == (50, 1, 32, 32)
    inside = (figures.points > -0.5) & (figures.points < 31.5)
    assert inside.float().mean() > 0.97
    x, y = figures.points[:, 1:].round().long().clamp(0, 31).unbind(-1)
    at_tips = figures.images[torch.arange(50)[:, None], 0, y, x][inside[:, 1:].all(-1)]
    assert at_tips.min() > 0.55  # a tip lies at most 0.71 pixels from its pixel's center
