"""`serve` as a command: its first line, its defaults, and how it says what is wrong."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from dlcommon.runtime.commands import serve
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.locate_model import find_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.testing.raw_http import Target
from dlcommon.testing.server_process import serving
from dlcommon.testing.toy_serving import ToyCapstone, ToyService, write_toy_model

CAPSTONE: Any = ToyCapstone()
COMMAND = [sys.executable, "-m", "dlcommon.testing.toy_serving"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_toy_model(tmp_path / "toy.onnx", run="20260101-000000")


def test_the_first_line_names_capstone_data_device_and_address(model: Path) -> None:
    with serving([*COMMAND, "--model", str(model), "--no-demo"]) as server:
        first = server.log_text().splitlines()[0]
        assert first == f"toy · serve · data toy-data · onnxruntime cpu · {server.url}"
        assert server.ready["capstone"] == "toy"
        assert server.ready["metrics"] == {"accuracy": 0.5}
        target = Target(server.address, dict(ToyService.example), "image")
        assert target.request("GET", "/").status == 404
        (only,) = json.loads(target.request("GET", "/v1/models").body)["models"]
        assert (only["name"], only["data"]["name"]) == ("toy", "toy-data")
        card = target.request("GET", "/v1/model").body.decode()
        for fact in (
            '"toy-data"',
            '"labels":["a","b"]',
            '"run":"20260101-000000"',
            "pixels float32 [batch, 4]",
        ):
            assert fact in card
        assert str(model.parent) not in card


def test_a_port_in_use_is_said_in_one_line(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*COMMAND, "--model", str(model), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    said = done.stderr
    assert said.count("\n") == 1
    assert f"127.0.0.1:{port}" in said
    assert "--port" in said


def starting(*flags: str) -> int:
    """The command in this process, up to what it refuses."""
    return serve.main(CAPSTONE, [*flags], open_browser=False)


def test_an_address_of_another_machine_is_said(model: Path) -> None:
    with pytest.raises(UserError, match=r"192\.0\.2\.1:0 cannot be used .*--port"):
        starting("--model", str(model), "--host", "192.0.2.1", "--port", "0")
    with pytest.raises(UserError, match="knows no such address"):
        starting("--model", str(model), "--host", "no such host", "--port", "0")


def test_a_missing_a_damaged_and_a_foreign_model_are_said(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.onnx does not exist; make one with"):
        starting("--model", str(tmp_path / "none.onnx"))
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a whole ONNX model"):
        starting("--model", str(cut))
    foreign = write_toy_model(tmp_path / "foreign.onnx", capstone="another")
    with pytest.raises(UserError, match="model of another, not of toy"):
        starting("--model", str(foreign))


def test_the_model_is_the_one_named_else_the_newest_export_else_the_packages_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(ToyCapstone, "folder", tmp_path / "package")
    with pytest.raises(UserError, match="`toy train` and `toy export`"):
        starting()
    pretrained = tmp_path / "package" / "pretrained" / "toy.onnx"
    exported = tmp_path / "runs" / "toy" / "a-run" / "model.onnx"
    for path in (pretrained, exported):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        (path.parent / "config.json").write_text("{}")
        assert find_model(CAPSTONE, None) == path
    assert find_model(CAPSTONE, Path("named.onnx")) == Path("named.onnx")


@pytest.mark.parametrize(
    "flags",
    [
        ("--port", "70000"),
        ("--port", "http"),
        ("--max-batch", "0"),
        ("--timeout", "nan"),
        ("--max-mb", "-1"),
        ("--token", ""),
        ("--token", "two words"),
        ("--root-path", "digits"),
        ("--grace-seconds", "-1"),
        ("--no-such-flag",),
    ],
    ids=" ".join,
)
def test_impossible_flags_are_exit_code_2(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        starting(*flags)
    assert ended.value.code == 2
    said = capsys.readouterr().err.replace("-", "_")
    assert flags[0].removeprefix("--").replace("-", "_") in said


def test_an_option_of_an_earlier_version_is_refused_with_its_new_name() -> None:
    with pytest.raises(UsageError, match="--streams is called --slots now"):
        starting("--streams", "2")


def test_an_impossible_token_in_the_environment_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DL_TOKEN", "two words")
    with pytest.raises(UsageError, match="DL_TOKEN"):
        starting()


def test_an_onnx_model_knows_its_inputs_and_metadata(model: Path) -> None:
    loaded = OnnxModel(model, threads=1)
    assert [str(tensor) for tensor in loaded.inputs] == ["pixels float32 [batch, 4]", "row int64 [batch]"]
    assert loaded.labels == ["a", "b"]
    assert loaded.metrics == {"accuracy": 0.5}
    assert (loaded.data_name, loaded.data_is_builtin) == ("toy-data", False)


def test_damaged_metadata_is_said(tmp_path: Path) -> None:
    for damage in ({"labels": "[1"}, {"labels": "{}"}, {"metrics": "3"}):
        with pytest.raises(UserError, match=f"metadata '{next(iter(damage))}' is damaged"):
            OnnxModel(write_toy_model(tmp_path / "toy.onnx", **damage))


def test_a_model_that_does_not_fit_its_service_is_said_at_the_start(model: Path) -> None:
    from dlcommon.runtime.serving.app import create_app

    class Misfit(ToyService):
        example: ClassVar = {"pixels": [1.0]}

    loaded = OnnxModel(model)
    with pytest.raises(UserError, match="own example"):
        create_app(Misfit(loaded), loaded, ServeConfig(demo=False))
