import numpy as np
from dlcommon.runtime.data.captioned_shapes import COLORS, SHAPES, all_contents, caption, draw_captioned_shapes


def test_every_content_differs_in_color_from_its_ground_and_is_listed_once() -> None:
    contents = all_contents()
    assert len(contents) == 6 * 5 * 5 == len(np.unique(contents, axis=0))
    assert (contents[:, 0] != contents[:, 2]).all()
    assert len(all_contents(4, 3)) == 36


def test_captions_name_the_content_in_either_order() -> None:
    assert caption(np.array([0, 0, 2])) == "a red circle on blue"
    assert caption(np.array([0, 0, 2]), ground_first=True) == "on blue a red circle"


def test_the_picture_has_the_colors_of_its_content() -> None:
    contents = all_contents()
    pictures = draw_captioned_shapes(contents, np.tile([0.0, 0.0, 0.6], (len(contents), 1)), 16)
    palette = np.array(list(COLORS.values()), np.float32)
    assert pictures.shape == (150, 3, 16, 16)
    assert pictures.dtype == np.float32
    np.testing.assert_array_equal(pictures[:, :, 0, 0], palette[contents[:, 2]])
    whole = contents[:, 1] != SHAPES.index("ring")
    np.testing.assert_allclose(pictures[whole, :, 8, 8], palette[contents[whole, 0]], atol=1e-6)
    np.testing.assert_allclose(pictures[~whole, :, 8, 8], palette[contents[~whole, 2]], atol=1e-6)


def test_shapes_can_be_told_apart_and_follow_their_place() -> None:
    contents = np.array([[0, shape, 1] for shape in range(len(SHAPES))])
    left, right = (draw_captioned_shapes(contents, np.tile([u, 0.0, 0.5], (5, 1)), 16) for u in (-0.25, 0.25))
    np.testing.assert_allclose(left[..., :, :12], right[..., :, 4:], atol=1e-6)
    differences = np.abs(left[:, None] - left).mean(axis=(2, 3, 4))
    assert differences[~np.eye(5, dtype=bool)].min() > 0.01
