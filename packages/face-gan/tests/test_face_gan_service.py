"""The face service, over the pretrained model."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.testing.commands import environment, run, script
from dlcommon.testing.raw_http import Target
from dlcommon.testing.server_process import ServerProcess, serving_pretrained
from face_gan.capstone import CAPSTONE
from face_gan.latents import LARGEST_SEED
from face_gan.service import Drawing, Faces, FaceService
from PIL import Image
from pydantic import ValidationError


@pytest.fixture(scope="module")
def service() -> FaceService:
    model = packaged_model(CAPSTONE)
    assert isinstance(model, Path)
    return FaceService(OnnxModel(model, threads=1))


def answer(service: FaceService, **fields: Any) -> Drawing:
    item = Faces(**fields)
    arrays = {name: np.asarray(array)[None] for name, array in service.prepare(item).items()}
    outputs = service.run(service.model, arrays)
    return service.answer_for(item, {name: array[0] for name, array in outputs.items()})


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)))


def test_a_seed_gives_the_same_face_alone_and_among_others(service: FaceService) -> None:
    alone = answer(service, seed=5)
    assert alone.picture == answer(service, seed=5).picture
    assert pixels(alone.picture).shape == (64, 64, 3)
    among = answer(service, seed=3, count=4, separate=True)
    assert among.seeds == [3, 4, 5, 6]
    assert among.pictures[2] == alone.picture
    assert len(set(among.pictures)) == 4
    assert (pixels(among.picture)[64:, :64] == pixels(alone.picture)).all()


def test_no_truncation_varies_more_and_full_truncation_is_one_face(service: FaceService) -> None:
    means = answer(service, count=3, truncation=0, separate=True).pictures
    assert len(set(means)) == 1

    def spread(truncation: float) -> float:
        drawn = answer(service, count=16, truncation=truncation, separate=True).pictures
        return float(np.stack([pixels(one) for one in drawn]).std(axis=0).mean())

    assert 0 < spread(0.4) < spread(1.0)


def test_a_walk_begins_and_ends_at_its_faces(service: FaceService) -> None:
    walk = answer(service, seed=1, to_seed=2, count=5, separate=True)
    for place, seed in ((0, 1), (-1, 2)):
        difference = pixels(walk.pictures[place]).astype(int) - pixels(answer(service, seed=seed).picture)
        assert np.abs(difference).max() <= 2
    assert len(set(walk.pictures)) == 5
    assert answer(service, seed=1, to_seed=2, share=0.5).picture == walk.pictures[2]


def test_mixing_takes_some_of_both(service: FaceService) -> None:
    one, other, mixed = (
        pixels(answer(service, **fields).picture).astype(int)
        for fields in ({"seed": 1}, {"seed": 2}, {"seed": 1, "mix_seed": 2, "mix_from": 2})
    )
    assert np.abs(mixed - one).max() > 8
    assert np.abs(mixed - other).max() > 8
    with pytest.raises(InvalidInputError, match="mix_from must be less than the generator's 4 blocks, not 4"):
        service.prepare(Faces(seed=1, mix_seed=2, mix_from=4))


def test_directions_change_the_face(service: FaceService) -> None:
    plain = answer(service, seed=1).picture
    assert answer(service, seed=1, components=[0, 0]).picture == plain
    assert answer(service, seed=1, components=[0, 2.5]).picture != plain


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": LARGEST_SEED + 1}, "seed"),
        ({"count": 0}, "count"),
        ({"count": 10**9}, "count"),
        ({"truncation": -0.1}, "truncation"),
        ({"truncation": 1.1}, "truncation"),
        ({"truncation": float("nan")}, "truncation"),
        ({"components": [float("inf")]}, "components"),
        ({"components": [9]}, "components"),
        ({"components": [0] * 11}, "components"),
        ({"share": 2}, "share"),
        ({"noise": [0.0]}, "noise"),
    ],
)
def test_bad_values_are_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Faces(**fields)


def test_seeds_beyond_the_largest_are_named(service: FaceService) -> None:
    with pytest.raises(InvalidInputError, match="are beyond"):
        service.prepare(Faces(seed=LARGEST_SEED, count=2))


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE, "--no-demo") as process:
        yield process


def test_a_picture_over_http(server: ServerProcess) -> None:
    target = Target(server.address, {"seed": 7}, None)
    refused = target.post_items([{"seed": -1}, {"count": 10**9}, {"truncation": 2}])
    for name in (b"seed", b"count", b"truncation"):
        assert name in refused.body
    target.check_alive()


def test_predict_writes_a_folder_of_faces_by_seed(service: FaceService, tmp_path: Path) -> None:
    (tmp_path / "seeds.txt").write_text("5\nmany\n7\n", encoding="utf-8")
    command = [script("face-gan"), "predict", str(tmp_path / "seeds.txt"), "--out", str(tmp_path / "faces")]
    done = run(command, environment(tmp_path))
    assert done.code == 1
    assert "seeds.txt, line 2" in done.stderr
    assert (tmp_path / "faces" / "seeds-1.png").read_bytes() == answer(service, seed=5).picture
    assert (tmp_path / "faces" / "seeds-3.png").read_bytes() == answer(service, seed=7).picture
    assert len(list((tmp_path / "faces").glob("*.png"))) == 2
