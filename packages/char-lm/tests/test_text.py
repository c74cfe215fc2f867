"""The reader's own text, and the windows drawn from a text."""

from pathlib import Path
from typing import Any

import pytest
import torch
from char_lm.batches import WindowBatches
from char_lm.data import own_text
from dlcommon.runtime.errors import UsageError, UserError

TEXT = torch.arange(1000)


def batches(**changes: int) -> WindowBatches:
    settings: dict[str, Any] = {"batch_size": 4, "longest": 16, "context": lambda: 8, "seed": 0, **changes}
    return WindowBatches(TEXT, **settings)


def test_targets_are_the_next_tokens_and_short_windows_are_more() -> None:
    inputs, targets = next(batches().epoch(0)).tensors
    assert inputs.shape == targets.shape == (8, 8)
    assert torch.equal(targets, inputs + 1)
    assert batches().length() == 1000 // 64


def test_any_batch_can_be_made_again() -> None:
    every = list(batches().epoch(3))
    later = list(batches().epoch(3, start=9))
    assert all(torch.equal(a.tensors[0], b.tensors[0]) for a, b in zip(every[9:], later, strict=True))
    assert not torch.equal(every[0].tensors[0], next(batches(seed=1).epoch(3)).tensors[0])
    assert not torch.equal(every[0].tensors[0], next(batches().epoch(4)).tensors[0])


def test_two_processes_share_the_windows_of_one() -> None:
    whole = next(batches().epoch(0)).tensors[0]
    parts = [next(batches(rank=rank, world_size=2).epoch(0)).tensors[0] for rank in range(2)]
    assert torch.equal(torch.cat(parts), whole)


def test_too_little_text_is_said() -> None:
    with pytest.raises(ValueError, match="too few for one batch"):
        batches(batch_size=100)
    with pytest.raises(ValueError, match="shared equally"):
        batches(world_size=3)


def test_a_file_or_a_folder_is_a_corpus_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "My Novel.txt").write_text("one " * 500)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "b.txt").write_text("two " * 500)
    one = own_text(tmp_path / "My Novel.txt")
    assert one.name == "my-novel"
    assert len(one.load().train) == 1800
    both = own_text(tmp_path)
    corpus = both.load()
    assert corpus.train + corpus.test == "one " * 500 + "\n" + "two " * 500
    assert both.fingerprint() != one.fingerprint()


def test_a_folder_is_read_as_its_file_manager_shows_it(tmp_path: Path) -> None:
    """macOS puts a binary `._a.txt` beside `a.txt` on other systems' disks, and `__MACOSX` into archives."""
    for name, content in {
        "a.txt": b"one " * 500, "._a.txt": b"\x00\x05\x16\x07\xff", "__MACOSX/._a.txt": b"\xff\xfe", "b.jpg": b"\xff",
        "sub/c.TXT": b"two " * 500, ".cache/d.txt": b"hidden",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    corpus = own_text(tmp_path).load()
    assert corpus.train + corpus.test == "one " * 500 + "\n" + "two " * 500


def test_what_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no such file"):
        own_text(tmp_path / "missing.txt")
    with pytest.raises(UsageError, match=r"holds no \.txt files"):
        own_text(tmp_path)
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(UserError, match="too few"):
        own_text(tmp_path / "short.txt").load()
    (tmp_path / "same.txt").write_text("a" * 5000)
    with pytest.raises(UsageError, match="holds 'a' alone, so there is nothing to learn"):
        own_text(tmp_path / "same.txt").load()
    (tmp_path / "gbk.txt").write_bytes("学而时习之".encode("gb18030") * 300)
    corpus = own_text(tmp_path / "gbk.txt").load()
    assert corpus.train + corpus.test == "学而时习之" * 300
    assert "gbk.txt is not UTF-8; it is read as GBK (simplified Chinese)" in capsys.readouterr().err
    (tmp_path / "binary.txt").write_bytes(b"\xff\xd8\x01\x02" * 500)
    with pytest.raises(UserError, match=r"row 1: is not UTF-8 text .byte 0xff., and in no encoding"):
        own_text(tmp_path / "binary.txt").load()
