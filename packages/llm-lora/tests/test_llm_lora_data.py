"""Own conversations are read from four kinds of files; what cannot be used is named."""

import json
from pathlib import Path

import pytest
from dlcommon.runtime.errors import UsageError, UserError
from llm_lora.config import Config
from llm_lora.data import own_conversations, own_data

ROWS = [{"instruction": f"Add {number} and 1.", "input": "", "output": str(number + 1)} for number in range(30)]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    else:
        separator = "\t" if path.suffix == ".tsv" else ","
        lines = [separator.join(rows[0]), *(separator.join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("kind", [".json", ".jsonl", ".csv", ".tsv"])
def test_four_kinds_of_files_hold_the_same(kind: str, tmp_path: Path) -> None:
    data = own_conversations(write(tmp_path / f"mine{kind}", ROWS)).load()
    assert (len(data.train), len(data.test)) == (27, 3)
    found = sorted((one.prompt[0].content, one.messages[-1].content) for one in (*data.train, *data.test))
    assert found == sorted((row["instruction"], row["output"]) for row in ROWS)


def test_equal_questions_are_in_the_same_part(tmp_path: Path) -> None:
    data = own_conversations(write(tmp_path / "mine.json", ROWS + ROWS)).load()
    assert not {one.prompt for one in data.train} & {one.prompt for one in data.test}
    assert len(data.train) + len(data.test) == 60


def test_bad_rows_are_named(tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS]
    rows[2]["output"] = ""
    del rows[5]["instruction"]
    with pytest.raises(
        UserError, match=r"2 of 30 rows cannot be used: line 3 has an empty message; line 6 has the fie"
    ):
        own_conversations(write(tmp_path / "mine.jsonl", rows)).load()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", "{\n", "line 1 is no JSON"),
        ("a.json", "[", "is no JSON"),
        ("a.json", "{}", "is no JSON list"),
        ("a.csv", "instruction,output\na\n", "line 2 has 1 cells instead of 2"),
        ("a.jsonl", json.dumps(ROWS[0]), "1 different conversations are too few"),
    ],
)
def test_damaged_files(name: str, content: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=problem):
        own_conversations(tmp_path / name).load()


def test_what_is_no_file_of_conversations(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        own_data(Config(text=str(tmp_path / "none.json")))
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UsageError, match=r"read from \.json, \.jsonl, \.csv and \.tsv"):
        own_data(Config(text=str(tmp_path / "a.txt")))
    assert own_data(Config()) is None
