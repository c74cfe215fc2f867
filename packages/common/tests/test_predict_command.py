"""`predict`: what is read, what is answered, what is written, and how it says what is wrong."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from dlcommon.runtime.batch_inference.answers import BatchRunner, answer_in_order, in_groups
from dlcommon.runtime.batch_inference.items import Entry
from dlcommon.runtime.batch_inference.sources import Source, natural_key
from dlcommon.runtime.cli import guarded
from dlcommon.runtime.commands import predict
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.images import SUFFIXES
from dlcommon.runtime.serving.service import Answer
from dlcommon.runtime.tables.columns import Column
from dlcommon.runtime.tables.items import Row
from dlcommon.runtime.tables.table_service import TableService
from dlcommon.testing.raw_http import wait_until
from dlcommon.testing.service_answers import batched_answers
from dlcommon.testing.toy_serving import ToyCapstone, ToyService, write_toy_model
from onnx import TensorProto, helper
from PIL import Image

COMMAND = """
import sys
from dlcommon.runtime.cli import guarded
from dlcommon.runtime.commands import predict
from dlcommon.testing.toy_serving import ToyCapstone
code = guarded(lambda: predict.main(ToyCapstone(), sys.argv[1:]))
heavy = [name for name in ("torch", "gradio", "fastapi", "pandas") if name in sys.modules]
sys.exit(f"loaded {heavy}" if heavy else code)
"""


class Doubled(Answer):
    doubled: float | None
    kind: str


class DoublingService(TableService[Doubled]):
    """Doubles the column `size`, and repeats the column `kind`."""

    answer = Doubled
    example: ClassVar = {"size": 1.0, "kind": "a"}

    def __init__(self, model: OnnxModel) -> None:
        columns = [
            Column("size", "number", 0.0, 9, 1.0, low=0.0, high=9.0),
            Column("kind", "category", 0.0, 3, "a", categories=("a", "b", "NA")),
            Column("remark", "text", 0.0, 9),
        ]
        background = {column.name: np.zeros((1, 1), np.float32) for column in columns}
        super().__init__(model, columns, {"all": ["size", "kind", "remark"]}, background)

    def explained(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        return outputs["doubled"]

    def answer_for(self, item: Row, outputs: dict[str, np.ndarray]) -> Doubled:
        number = float(outputs["doubled"][0])
        return Doubled(doubled=None if np.isnan(number) else number, kind=str(item.values()["kind"]))


class Toy(ToyCapstone):
    def service(self, model: OnnxModel) -> Any:
        return DoublingService(model) if model.metadata.get("service") == "doubler" else super().service(model)


def write_doubling_model(path: Path) -> Path:
    """Writes doubled [batch, 1] = 2 · size [batch, 1]; the texts only pass through."""
    names = {"size": TensorProto.FLOAT, "kind": TensorProto.STRING, "remark": TensorProto.STRING}
    inputs = [helper.make_tensor_value_info(name, kind, ["batch", 1]) for name, kind in names.items()]
    outputs = [
        helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["batch", 1]),
        *(helper.make_tensor_value_info(f"{name}s", TensorProto.STRING, ["batch", 1]) for name in ("kind", "remark")),
    ]
    nodes = [
        helper.make_node("Add", ["size", "size"], ["doubled"]),
        *(helper.make_node("Identity", [name], [f"{name}s"]) for name in ("kind", "remark")),
    ]
    graph = helper.make_graph(nodes, "doubler", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"capstone": "toy", "data": "toy-data", "service": "doubler"})
    onnx.save(model, path)
    return path


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Answers SIGINT here and in the commands that are started: a shell's background jobs are started to ignore it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    toys = {name: write_toy_model(folder / f"{name}.onnx", service=name) for name in ("describer", "painter", "writer")}
    return {**toys, "doubler": write_doubling_model(folder / "doubler.onnx")}


class Result:
    """Holds what one run of the command left."""

    def __init__(self, code: int, stdout: str, stderr: str) -> None:
        self.code, self.stdout, self.stderr = code, stdout, stderr

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith("error:")]


Run = Callable[..., Result]


@pytest.fixture
def run(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs the command in this process, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def command(service: str, *argv: str, stdin: bytes = b"") -> Result:
        (models[service].parent / "stdin").write_bytes(stdin)
        with (models[service].parent / "stdin").open(encoding="utf-8") as file, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", file)
            capstone: Any = Toy()
            code = guarded(lambda: predict.main(capstone, [*argv, "--model", str(models[service])]))
        return Result(code, *capsys.readouterr())

    return command


def picture(path: Path, grey: int = 0, width: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 2), (grey, grey, grey)).save(path)
    return path


def lines(path: Path, *texts: str) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


# -- files, folders, globs


def test_a_folder_is_read_in_natural_order_without_what_is_hidden(run: Run, tmp_path: Path) -> None:
    for name in ("10.png", "9.PNG", "sub/2.gif", "sub/1.jpg", "a b.webp"):
        picture(tmp_path / "in" / name)
    for name in ("._9.png", ".hidden.png", "__MACOSX/x.png", ".git/y.png"):
        picture(tmp_path / "in" / name)
    lines(tmp_path / "in" / "notes.txt", "note")
    done = run("describer", "in")
    assert done.code == 0
    assert [Path(one["source"]).as_posix() for one in done.records] == [
        "in/9.PNG", "in/10.png", "in/a b.webp", "in/sub/1.jpg", "in/sub/2.gif",
    ]  # fmt: skip
    assert "passed over in folders: 1 .txt, 4 hidden" in done.stderr
    assert all("line" not in one for one in done.records)


def test_natural_order_compares_names_of_any_form() -> None:
    names = ["2", "10", "a10", "a9", "", "é", "Z", "٣", "1/x", "1"]
    assert sorted(map(Path, names), key=natural_key)[1:4] == [Path("1"), Path("1/x"), Path("2")]


def test_globs_that_the_shell_did_not_expand(run: Run, tmp_path: Path) -> None:
    for name in ("in/b2.png", "in/b10.png", "in/deep/er/c.png", "in/[1].png", "in/._b3.png"):
        picture(tmp_path / name)
    assert [one["source"] for one in run("describer", "in/b*.png").records] == ["in/b2.png", "in/b10.png"]
    assert len(run("describer", "in/**/*.png").records) == 4
    assert len(run("describer", "in/d*").records) == 1
    assert [one["source"] for one in run("describer", "in/[1].png").records] == ["in/[1].png"]
    done = run("describer", "in/*.bmp")
    assert (done.code, done.errors) == (2, ["error: no file matches 'in/*.bmp'"])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("", "nothing to predict: name files"),
        ("absent.png", "there is no file or folder 'absent.png'"),
        ("empty", "empty holds no file that ends in .png"),
        ("a.png - -", "type it once"),
        ("a.png --json", "--out"),
        ("a.png --column x --format lines", "leave --format lines out"),
        ("a.png --keep x", "there is none"),
        ("a.png --set row", "write NAME=VALUE"),
        ("a.png --set colour=1", "no field 'colour'; it has pixels, image, row, held"),
        ("a.png --out a.doc", "choose a name that ends in .jsonl"),
        ("a.png --out a.txt", "hold no text"),
        ("a.png --out a.png/b.csv", "a part of that path is a file"),
        ("a.png --out new", "hold no pictures"),
        ("a.png --out full", "is a folder that is not empty"),
        ("t.csv", "which column holds the paths of files? Type --column with one of path, n"),
        ("t.csv --column nonesuch", "t.csv has no column 'nonesuch'; its columns are path, n"),
        ("t.csv --column path --out t.csv", "is one of the inputs"),
        ("a.png --run x --run y --model z", ""),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_exit_code_2(argv: str, said: str, run: Run, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "full" / "x.png")
    lines(tmp_path / "t.csv", "path,n", "a.png,1")
    before = sorted(tmp_path.rglob("*"))
    done = run("describer", *argv.split())
    assert done.code == (1 if "a.png/" in argv else 2)
    assert said in done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_files_are_named_and_the_others_answered_in_order(run: Run, tmp_path: Path) -> None:
    for number in range(5):
        picture(tmp_path / "in" / f"{number}.png", width=number + 1)
    (tmp_path / "in" / "1.png").write_bytes(b"")
    (tmp_path / "in" / "3.png").write_bytes((tmp_path / "in" / "3.png").read_bytes()[:40])
    done = run("describer", "in", "--batch-size", "2")
    assert done.code == 1
    assert done.errors == [
        "error: in/1.png: the image is empty (0 bytes)",
        "error: in/3.png: the image is damaged or cut off",
    ]
    assert [one["answer"]["scores"][3] for one in done.records] == [4, 6, 8]
    assert "3 answered" in done.stderr
    assert "2 failed" in done.stderr


def test_an_image_beyond_the_bound_is_refused(run: Run, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", width=50)
    done = run("describer", "a.png", "--max-pixels", "99")
    assert (done.code, done.stdout) == (1, "")
    assert "at most 99 are accepted" in done.errors[0]
    assert "none of 1 item could be answered" in done.errors[1]


def test_stdin_holds_one_picture(run: Run, tmp_path: Path) -> None:
    (only,) = run("describer", "-", stdin=picture(tmp_path / "a.png", width=7).read_bytes()).records
    assert (only["source"], only["answer"]["scores"][3]) == ("stdin", 10)


def test_a_column_or_lines_may_name_the_files(run: Run, tmp_path: Path) -> None:
    picture(tmp_path / "pictures" / "a.png", width=7)
    lines(tmp_path / "pictures" / "list.csv", "id;file", "x;a.png", "y;absent.png", "z;")
    done = run("describer", "pictures/list.csv", "--column", "file", "--keep", "id")
    assert [(one["line"], one["kept"], one["answer"]["scores"][3]) for one in done.records] == [(2, {"id": "x"}, 10)]
    assert done.errors == [
        "error: pictures/list.csv, line 3: pictures/absent.png cannot be read (No such file or directory)"
    ]
    done = run("describer", "-", "--format", "lines", stdin=b"pictures/a.png\n")
    assert [one["line"] for one in done.records] == [1]


# -- the same answers as the server


def test_the_answers_are_the_services_whatever_the_batch(run: Run, models: dict[str, Path], tmp_path: Path) -> None:
    items = [{"pixels": [float(number), 0.5, 1.0, 2.0], "row": number % 10} for number in range(50)]
    lines(tmp_path / "items.jsonl", *map(json.dumps, items))
    service = ToyService(OnnxModel(models["describer"]))
    expected = [answer.model_dump() for answer in batched_answers(service, *items)]
    for size in (1, 7, 32):
        done = run("describer", "items.jsonl", "--batch-size", str(size))
        assert [one["answer"] for one in done.records] == expected
        assert [one["line"] for one in done.records] == list(range(1, 51))


def test_an_item_on_which_the_model_itself_fails_fails_alone(run: Run, tmp_path: Path) -> None:
    items = [{"pixels": [0, 0, 0, 0], "row": row} for row in (1, 11, 2)]
    lines(tmp_path / "items.jsonl", *map(json.dumps, items))
    done = run("describer", "items.jsonl")
    assert done.code == 1
    assert [one["answer"]["scores"][0] for one in done.records] == [4, 8]
    (error,) = done.errors
    assert error.startswith("error: items.jsonl, line 2: the model fails on it (")


def test_what_is_no_item_is_refused_as_the_server_does(run: Run, tmp_path: Path) -> None:
    good = '{"pixels": [1, 1, 1, 1]}'
    lines(
        tmp_path / "items.jsonl",
        good,
        "{",
        "[1]",
        '{"pixels": [1]}',
        '{"shoe": 1}',
        "",
        '{"pixels": [NaN,1,1,1]}',
        "[" * 100_000,
    )
    done = run("describer", "items.jsonl")
    assert [one["line"] for one in done.records] == [1]
    assert [error.partition(": ")[2].partition(": ")[0] for error in done.errors] == [
        f"items.jsonl, line {number}" for number in (2, 3, 4, 5, 7, 8)
    ]
    assert "1 blank line passed over" in done.stderr


def test_further_fields_of_every_item(run: Run, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    lines(tmp_path / "items.jsonl", '{"pixels": [0, 0, 0, 0], "row": 1}')
    done = run("describer", "a.png", "items.jsonl", "--set", "row=2")
    assert [one["answer"]["scores"][1] for one in done.records] == [9, 5], "an item's own field goes first"


def test_no_more_is_read_than_is_under_way(models: dict[str, Path]) -> None:
    read = 0

    def endless() -> Iterator[Entry]:
        nonlocal read
        while True:
            read += 1
            yield Entry(Source(None, "jsonl"), read, {"pixels": [read, 0, 0, 0]})

    runner = BatchRunner(ToyService(OnnxModel(models["describer"])), batch_size=4)
    answers = answer_in_order(endless(), runner)
    for number in range(1, 200):
        entry, _ = next(answers)
        assert entry.line == number
        assert read <= number + (runner.ahead + 1) * runner.items
    answers.close()


def test_groups_hold_all_elements() -> None:
    assert list(in_groups(iter(range(5)), 2)) == [[0, 1], [2, 3], [4]]


# -- lines of text


def test_lines_keep_their_numbers(run: Run, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes("\ufeffab\r\n\r\n长句\r\ntwo words\r\nc\r\n\r\n".encode())
    done = run("writer", "words.txt", "--set", "letters=3")
    assert done.code == 1
    assert [(one["line"], one["answer"]["text"]) for one in done.records] == [(1, "aba"), (3, "长句长"), (5, "ccc")]
    assert done.errors == ["error: words.txt, line 4: the word must not hold spaces"]
    assert run("writer", "words.txt", "--set", "letters=3", "--out", "out.txt").code == 1
    assert (tmp_path / "out.txt").read_text(encoding="utf-8").split("\n") == ["aba", "", "长句长", "", "ccc", "", ""]


def test_stdin_and_files_without_an_ending_hold_lines(run: Run, tmp_path: Path) -> None:
    lines(tmp_path / "words", "x")
    done = run("writer", "words", "-", "--set", "letters=2", stdin=b"y\nz")
    assert [(one["source"], one["line"], one["answer"]["text"]) for one in done.records] == [
        ("words", 1, "xx"), ("stdin", 1, "yy"), ("stdin", 2, "zz"),
    ]  # fmt: skip


def test_a_file_may_be_one_item(run: Run, tmp_path: Path) -> None:
    (tmp_path / "word.txt").write_text("a\nb", encoding="utf-8")
    (only,) = run("writer", "word.txt", "--format", "files", "--set", "letters=3").records
    assert only == {"source": "word.txt", "answer": {"text": "a\nb"}}
    run("writer", "word.txt", "--format", "files", "--set", "letters=4", "--out", "out.txt")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "a\\nba\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ab\n\xff\x01\x02\n", "line 2: is not UTF-8 text (byte 0xff), and in no encoding that is known here"),
        ("a\n学而时习之学而时习之\n学".encode()[:-1], "line 3: is not UTF-8 text (byte 0xe5)"),
        (b"ab\nc\0\n", "line 2: is not text: it holds a zero byte"),
    ],
)
def test_other_encodings_are_said_with_their_line(content: bytes, said: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    lines(tmp_path / "more.txt", "d")
    done = run("writer", "words.txt", "more.txt", "--set", "letters=1")
    assert done.code == 1
    (error,) = done.errors
    assert said in error
    assert [one["answer"]["text"] for one in done.records][-1] == "d"


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        ("ab\nRené\n", "cp1252", "is read as Windows-1252"),
        ("a\n中文的句子\n", "gbk", "is read as GBK (simplified Chinese)"),
        ("ab\nc\n", "utf-16", "words.txt is UTF-16, and is read as that"),
    ],
)
def test_other_encodings_are_read_and_said(text: str, encoding: str, said: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(text.encode(encoding))
    for words in (["words.txt"], ["words.txt", "--format", "files"]):
        done = run("writer", *words, "--set", "letters=1")
        assert done.code == 0
        assert done.stderr.count(said) == 1
        assert done.records[-1]["answer"]["text"][0] == (text if "files" in words else text.split()[-1])[0]


def test_a_folder_of_texts_holds_texts_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    lines(tmp_path / "in" / "a.txt", "a")
    lines(tmp_path / "in" / "sub" / "c.TXT", "c")
    (tmp_path / "in" / "._a.txt").write_bytes(b"\0\5\x16\7")
    picture(tmp_path / "in" / "b.jpg")
    done = run("writer", "in")
    assert [one["answer"]["text"] for one in done.records] == ["aaa", "ccc"]
    assert "passed over in folders: 1 .jpg, 1 hidden" in done.stderr


# -- columns


def test_a_column_of_texts(run: Run, tmp_path: Path) -> None:
    lines(tmp_path / "a.csv", "sep=;", '"id, of it";"the, text"', "1234567890123456789;ab", ";", '2;"c;\nd"')
    lines(tmp_path / "b.tsv", "id, of it\tthe, text", "9\te")
    done = run("writer", "a.csv", "b.tsv", "--column", "the, text", "--keep", "id, of it", "--set", "letters=2")
    assert [(one["line"], one["kept"]["id, of it"], one["answer"]["text"]) for one in done.records] == [
        (3, "1234567890123456789", "ab"), (5, "2", "c;"), (2, "9", "ee"),
    ]  # fmt: skip
    (tmp_path / "word.csv").write_text("n,word\n1,ab\n", encoding="utf-8")
    assert run("writer", "word.csv").records[0]["answer"]["text"] == "aba", "the field's own name needs no --column"
    done = run("writer", "a.csv")
    assert (done.code, done.stdout) == (2, "")
    assert "which column holds the texts? Type --column with one of id, of it, the, text" in done.stderr
    done = run("writer", "-", "--column", "x", stdin=b"y\n1\n")
    assert (done.code, done.errors) == (2, ["error: stdin has no column 'x'; its columns are y"])


def test_rows_are_read_as_training_reads_them(run: Run, tmp_path: Path) -> None:
    lines(tmp_path / "rows.csv", "id,kind,size,remark", "9223372036854775808,a, 1.5 ,x", "2,NA,NA,", "3,b,,N/A")
    done = run("doubler", "rows.csv", "--keep", "id")
    assert done.code == 0
    assert [(one["kept"]["id"], one["answer"]["doubled"], one["answer"]["kind"]) for one in done.records] == [
        ("9223372036854775808", 3.0, "a"), ("2", None, "NA"), ("3", None, "b"),
    ]  # fmt: skip
    assert "not used" not in done.stderr
    done = run("doubler", "-", stdin=b"Size;kind\n7;b\n")
    assert done.records[0]["answer"] == {"doubled": None, "kind": "b"}
    assert "stdin: has no size, remark, so they count as not known; Size is not used" in done.stderr


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ('"150,5"', "size is '150,5', which is not a number; write it with a decimal point"),
        ('"1,000"', "write it with a decimal point and without separators"),
        ('"$1,000.50"', "write it with a decimal point"),
        ('"1.234,50 €"', "write it with a decimal point"),
        ("15 %", "write it with a decimal point"),
        ("many", "size is 'many', which is not a number"),
        ("1e400", "size is '1e400', which is not a number"),
        ("1e31", "size is 1e+31, beyond 1e+30, which no model here can use"),
        ("-1", "size is -1, but is never negative"),
        ("1,2,3", "has 5 cells where the header names 3 columns"),
    ],
)
def test_a_cell_that_cannot_be_used_is_named(cell: str, said: str, run: Run, tmp_path: Path) -> None:
    lines(tmp_path / "rows.csv", "size,kind,remark", "1,a,", f"{cell},a,", "2,robot,", "3,b,")
    done = run("doubler", "rows.csv")
    assert done.code == 1
    assert [one["line"] for one in done.records] == [2, 5]
    bad, robot = done.errors
    assert bad.startswith("error: rows.csv, line 3: ")
    assert said in bad
    assert robot == "error: rows.csv, line 4: kind is 'robot', none of a, b, NA"


def test_damaged_tables_are_said_and_foreign_ones_refused(run: Run, tmp_path: Path) -> None:
    lines(tmp_path / "rows.csv", "size", "1", '"2', "3")
    done = run("doubler", "rows.csv")
    assert (done.code, len(done.records)) == (1, 1)
    assert "rows.csv, line 3: is not valid CSV" in done.errors[0]
    lines(tmp_path / "rows.csv", "a,b", "1,2")
    done = run("doubler", "rows.csv")
    assert done.code == 2
    assert "none of the columns that the model takes (size, kind, remark), but a, b" in done.stderr
    (tmp_path / "rows.csv").write_bytes(b"")
    assert run("doubler", "rows.csv").errors[0] == "error: rows.csv: the file is empty"
    lines(tmp_path / "rows.csv", "size,size", "1,2")
    assert "names column 'size' 2 times" in run("doubler", "rows.csv").stderr
    lines(tmp_path / "rows.csv", "size")
    done = run("doubler", "rows.csv")
    assert (done.code, done.errors) == (2, ["error: nothing to predict: no item in rows.csv"])
    done = run("doubler", "rows.csv", "--format", "lines")
    assert (done.code, "neither a file nor a text" in done.stderr) == (2, True)


# -- where answers go


def test_csv_has_a_column_for_each_field(run: Run, tmp_path: Path) -> None:
    lines(tmp_path / "rows.csv", "kind,size,source", "a,1,mine", "b,,", "NA,3,")
    assert run("doubler", "rows.csv", "--out", "out.csv", "--keep", "kind", "--keep", "source").code == 0
    rows = list(csv.reader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"))))
    assert rows == [
        ["source", "line", "kind (kept)", "source (kept)", "doubled", "kind"],
        ["rows.csv", "2", "a", "mine", "2.0", "a"],
        ["rows.csv", "3", "b", "", "", "b"],
        ["rows.csv", "4", "NA", "", "6.0", "NA"],
    ]
    lines(tmp_path / "items.jsonl", '{"pixels": [1, 2, 3, 4]}')
    run("describer", "items.jsonl", "--out", "new/out.tsv")
    assert (tmp_path / "new" / "out.tsv").read_text(encoding="utf-8") == (
        "source\tline\tscores\ttotal\nitems.jsonl\t1\t[1.0, 3.0, 5.0, 7.0]\t16.0\n"
    )


def test_labels_are_columns_and_grids_are_left_out(models: dict[str, Path]) -> None:
    class Rich(Answer):
        probabilities: dict[str, float]
        other: dict[str, float] | None
        grid: list[list[int]] | None
        names: list[str] | None
        sure: bool

    rich = Rich(probabilities={"a": 0.25, "b": 0.75}, other={"x": 1.0}, grid=[[1]], names=["n"], sure=True)
    service: Any = ToyService(OnnxModel(models["describer"]))  # of the labels a and b
    assert service.cells(rich) == {
        "probabilities.a": 0.25, "probabilities.b": 0.75, "other": '{"x": 1.0}', "names": '["n"]', "sure": "true",
    }  # fmt: skip


def test_pictures_go_to_a_folder_under_their_inputs_names(run: Run, tmp_path: Path) -> None:
    for name in ("in/a.png", "in/a.gif", "in/sub/b.png"):
        picture(tmp_path / name, grey=51)
    lines(tmp_path / "items.jsonl", '{"pixels": [0, 50, 100, 200]}', "{}", '{"pixels": [1, 1, 1, 1]}')
    assert run("painter", "in", "items.jsonl", "--out", "out").code == 1
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert names == ["a-2.png", "a.png", "answers.jsonl", "items-1.png", "items-3.png", "sub/b.png"]
    assert np.asarray(Image.open(tmp_path / "out" / "items-1.png")).tolist() == [[0, 51], [102, 203]]
    records = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert records[3]["files"] == ["items-1.png"]
    assert records[3]["answer"] == {"total": 356.0}
    assert run("painter", "in", "--out", "out").code == 2
    done = run("painter", "items.jsonl")
    assert done.records[0]["answer"]["picture"].startswith("iVBOR"), "base64 in JSON, as the server sends it"
    run("painter", "items.jsonl", "--out", "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "source,line,total"


def test_the_file_is_replaced_only_when_all_is_done(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines(tmp_path / "words.txt", "a", "b")
    out = lines(tmp_path / "out.jsonl", "old")
    lines(tmp_path / "bad.txt", "two words")
    done = run("writer", "bad.txt", "--out", "out.jsonl")
    assert (done.code, out.read_text()) == (1, "old\n")
    assert "nothing was written" in done.stderr
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGINT))
        assert run("writer", "words.txt", "--out", "out.jsonl").code == 130
    assert out.read_text() == "old\n"
    assert run("writer", "words.txt", "--out", "out.jsonl").code == 0
    assert len(out.read_text().splitlines()) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"words.txt", "bad.txt", "out.jsonl"}


def test_json_says_at_the_end_what_was_done(run: Run, models: dict[str, Path], tmp_path: Path) -> None:
    lines(tmp_path / "words.txt", "a", "two words", "b")
    done = run("writer", "words.txt", "--out", "out.jsonl", "--json")
    (result,) = done.records
    assert result.pop("seconds") >= 0
    assert result == {
        "capstone": "toy", "data": "toy-data", "model": str(models["writer"]), "n": 2, "failed": 1, "out": "out.jsonl",
    }  # fmt: skip
    first = done.stderr.splitlines()[0]
    assert first.startswith("toy · predict · data toy-data · onnxruntime ")
    assert first.endswith(" · words.txt")


# -- processes


def command(*argv: str, **options: Any) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-c", COMMAND, *argv]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_a_reader_that_leaves_ends_it_quietly(models: dict[str, Path], tmp_path: Path) -> None:
    words = lines(tmp_path / "words.txt", *["word"] * 20_000)
    with command(str(words), "--model", str(models["writer"])) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["answer"]["text"] == "wor"
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


def test_an_interrupt_leaves_nothing_behind_and_answers_need_no_torch(models: dict[str, Path], tmp_path: Path) -> None:
    """Interrupted while it waits for more on stdin; then run to its end."""
    out = tmp_path / "out" / "answers.jsonl"
    process = command("-", "--out", str(out), "--model", str(models["writer"]), stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"a\n" * 100)
    process.stdin.flush()
    wait_until(
        lambda: (
            (out.parent.is_dir() and any(path.stat().st_size for path in out.parent.iterdir()))
            or process.poll() is not None
        )
    )
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert said.decode().endswith("interrupted\n")
    assert "Traceback" not in said.decode()
    assert list(out.parent.iterdir()) == []
    process = command("-", "--out", str(out), "--model", str(models["writer"]), stdin=subprocess.PIPE)
    _, said = process.communicate(b"a\nb\n", timeout=600)
    assert process.returncode == 0, said.decode()
    assert len(out.read_text().splitlines()) == 2


def test_the_endings_of_pictures_are_those_that_are_decoded() -> None:
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in SUFFIXES} == {"PNG", "JPEG", "WEBP", "GIF", "BMP"}
