"""Checkpoints: what goes in comes out, damage is found, and an earlier one takes over."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from dlcommon.runtime import checkpoint
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.random_state import random_state, restore_random_state, seed_everything

FILES = (checkpoint.MANIFEST, checkpoint.MODEL, checkpoint.STATE, checkpoint.TREE)


def weights(step: int) -> dict[str, torch.Tensor]:
    return {"a": torch.full((3, 4), float(step)), "b.c": torch.arange(step)}


def saved(folder: Path, *steps: int) -> list[Path]:
    return [checkpoint.save(folder, step, weights(step), {"step": step, "x": torch.ones(2)}) for step in steps]


def equal(one: Any, other: Any) -> bool:
    """Same types, same values, same layout, bit for bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.stride() == other.stride() and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


TREES = [
    pytest.param({}, id="empty"),
    pytest.param({0: {"step": torch.tensor(3.0)}, 1: None, "1": "text", -2: True}, id="keys-of-integers"),
    pytest.param({"betas": (0.9, 0.999), "nested": [(1, [2, ()]), []]}, id="tuples-and-lists"),
    pytest.param({"best": float("-inf"), "lr": 0.1 + 0.2, "big": 2**80}, id="numbers"),
    pytest.param({"tensor": {"items": torch.ones(1), "list": 1, "tuple": 2}}, id="its-own-words"),
    pytest.param({"k": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)}, id="channels-last"),
    pytest.param({"h": torch.ones(2, dtype=torch.bfloat16), "i": torch.tensor(7), "u": torch.empty(0)}, id="types"),
    pytest.param({"u8": torch.arange(5, dtype=torch.uint8), "flag": torch.tensor([True, False])}, id="bytes"),
]


@pytest.mark.parametrize("tree", TREES)
def test_state_comes_back_as_it_was(tree: dict[Any, Any], tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, weights(1), {"tree": tree, "always": torch.ones(1)})
    restored_weights, state = checkpoint.load(path)
    assert equal(state["tree"], tree)
    torch.testing.assert_close(restored_weights, weights(1), rtol=0, atol=0)


def test_not_a_number_survives(tmp_path: Path) -> None:
    _, state = checkpoint.load(checkpoint.save(tmp_path, 1, weights(1), {"x": float("nan"), "t": torch.ones(1)}))
    assert state["x"] != state["x"]


def test_views_and_shared_memory_are_stored_by_value(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    path = checkpoint.save(tmp_path, 1, {"a": base, "tied": base}, {"row": base[1], "turned": base.T})
    restored, state = checkpoint.load(path)
    assert torch.equal(restored["a"], base)
    assert torch.equal(restored["tied"], base)
    assert torch.equal(state["row"], base[1])
    assert torch.equal(state["turned"], base.T)


@pytest.mark.parametrize("thing", [object(), {1, 2}, torch.float32, b"bytes"])
def test_what_cannot_be_stored_is_refused(thing: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="/here holds a"):
        checkpoint.save(tmp_path, 1, weights(1), {"here": thing})
    assert checkpoint.list_checkpoints(tmp_path) == []


def test_two_tensors_never_take_one_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two tensors"):
        checkpoint.save(tmp_path, 1, {}, {"a/b": torch.ones(1), "a": {"b": torch.zeros(1)}})


def test_random_generators_continue_where_they_were(tmp_path: Path) -> None:
    import random

    import numpy as np

    def draw() -> list[float]:
        # An odd number of normal deviates leaves one cached in NumPy's and Python's generators.
        return [random.gauss(0, 1), float(np.random.standard_normal()), float(torch.randn(()))]  # noqa: NPY002

    seed_everything(3)
    draw()
    _, state = checkpoint.load(checkpoint.save(tmp_path, 1, {}, {"random": random_state()}))
    expected = [draw(), draw()]
    seed_everything(4)
    restore_random_state(state["random"])
    assert [draw(), draw()] == expected


def test_a_checkpoint_holds_nothing_to_unpickle(tmp_path: Path) -> None:
    (path,) = saved(tmp_path, 1)
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)
    for file in path.iterdir():
        content = file.read_bytes()
        assert not content.startswith((b"PK", b"\x80")), "a zip or a pickle"
        # safetensors begins with the length of its JSON header.
        header = content if file.suffix == ".json" else content[8 : 8 + int.from_bytes(content[:8], "little")]
        assert header.lstrip().startswith(b"{")


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 9, 10)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["step-00000009", "step-00000010"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".step-00000001.abc"
    leftover.mkdir()
    (leftover / "model.safetensors").write_text("half")
    assert checkpoint.list_checkpoints(tmp_path) == []
    saved(tmp_path, 2)
    assert not leftover.exists()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(position: float) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[min(int(position * len(content)), len(content) - 1)] ^= 1
        file.write_bytes(content)

    return damage


def remove(file: Path) -> None:
    file.unlink()


def other_json(file: Path) -> None:
    file.write_text("[]")


DAMAGES = {
    "truncated": truncate,
    "empty": empty,
    "removed": remove,
    "another-file": other_json,
    **{f"flipped-{share}": flip(share) for share in (0.0, 0.1, 0.5, 0.9)},
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_the_checkpoint_before_taken(
    damage: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    older, newer = saved(tmp_path, 1, 2)
    if damage is truncate and name == checkpoint.MANIFEST:
        damage = flip(0.3)  # its last byte is a line break, which says nothing
    damage(newer / name)
    said: list[str] = []
    loaded = checkpoint.load_newest(tmp_path, said.append)
    assert loaded is not None
    path, restored, state = loaded
    assert path == older
    torch.testing.assert_close(restored, weights(1), rtol=0, atol=0)
    assert state["step"] == 1
    assert len(said) == 1
    assert newer.name in said[0]
    if name != checkpoint.MANIFEST:  # a wrong checksum there is taken for a wrong file
        assert name in said[0]


def test_nothing_whole_is_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    assert checkpoint.load_newest(tmp_path / "none", said.append) is None
    for path in saved(tmp_path, 1, 2):
        (path / checkpoint.MODEL).unlink()
    assert said == []
    assert checkpoint.load_newest(tmp_path, said.append) is None
    assert len(said) == 2


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (older,) = saved(tmp_path, 1)

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(UserError, match="disk is full"):
            saved(tmp_path, 2)
    assert list(tmp_path.iterdir()) == [older]
    assert checkpoint.load(older)[1]["step"] == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs mount")
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


# The tensors fill the disk, or leave too little for the state beside them, or for the small files behind them.
@pytest.mark.parametrize("floats", [20_000, 12_000])
def test_a_disk_that_fills_up_is_said_to_be_full(small_disk: Path, floats: int) -> None:
    (older,) = saved(small_disk, 1)
    with pytest.raises(UserError, match="disk is full"):
        checkpoint.save(small_disk, 2, {"a": torch.zeros(floats)}, {"x": torch.zeros(2000)})
    assert list(small_disk.iterdir()) == [older]
    assert checkpoint.load(older)[1]["step"] == 1
