import numpy as np
import pytest
from dlcommon.runtime.data import ImageClassification
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.evaluation.figures import worst_errors
from dlcommon.runtime.image_classification import split_images

IMAGES = np.arange(10 * 4, dtype=np.uint8).reshape(10, 2, 2, 1)
LABELS = np.arange(10) % 2
DATA = ImageClassification(IMAGES, LABELS, IMAGES[:3], LABELS[:3], ("even", "odd"))


def test_the_last_images_are_held_out_and_no_other() -> None:
    split = split_images(DATA, validation_size=3, batch_size=7)
    np.testing.assert_array_equal(np.concatenate([split.train_images, split.validation_images]), IMAGES)
    np.testing.assert_array_equal(split.validation_labels, LABELS[7:])
    assert len(split_images(DATA, validation_size=0, batch_size=10).validation_labels) == 0


def test_a_split_that_leaves_less_than_a_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="--validation-size 3 leaves fewer images than one batch of 8"):
        split_images(DATA, validation_size=3, batch_size=8)


def test_scores_and_temperature_are_those_of_the_validation_labels() -> None:
    split = split_images(DATA, validation_size=4, batch_size=1)  # labels 0, 1, 0, 1
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.5, 0.5 + 1e-9]])
    accuracy, loss = split.score(probabilities)
    assert accuracy == 0.75
    assert loss == pytest.approx(-np.log([0.8, 0.6, 0.3, 0.5]).mean())
    sure = np.array([[0.99, 0.01], [0.01, 0.99], [0.01, 0.99], [0.01, 0.99]])
    assert split.temperature(sure) > 1.5, "a model that is too sure of itself is not made modest"


def test_the_worst_errors_are_the_most_confident() -> None:
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9]])
    drawn = worst_errors(IMAGES[:3], np.array([1, 1, 1]), probabilities, ("even", "odd"), shown=1)
    assert drawn is not None
    titles = [axes.get_title() for axes in drawn.axes if axes.get_title()]
    assert titles == ["odd as\neven 90%"]
    assert worst_errors(IMAGES[:3], np.array([0, 0, 1]), probabilities, ("even", "odd")) is None
