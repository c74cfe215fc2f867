"""Whom a command is meant for."""

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest
from dlcommon.runtime import cli, dispatch
from dlcommon.runtime.dispatch import UV_OPTIONS_WITH_VALUE, choose, uv_run_target
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.run_directory import workspace_root
from dlcommon.testing.commands import environment, run

NONE = (None, None)
UV = shutil.which("uv")
ROOT = workspace_root(Path(__file__).parent)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("uv run --package X train", ("X", None)),
        ("uv run --package=X train --epochs 1", ("X", None)),
        ("/usr/local/bin/uv run --package X train", ("X", None)),
        ("uv.exe run --package X train", ("X", None)),
        ("uv --directory D run --package X train", ("X", None)),
        ("uv --offline --quiet run --no-sync --package X train", ("X", None)),
        ("uv run --package X -- train", ("X", None)),
        ("uv run -p 3.11 --package X train", ("X", None)),
        ("uv run -p3.11 --package X train", ("X", None)),
        ("uv run --with numpy --extra test --package X python -m thing", ("X", None)),
        ("uv run --isolated --exact --package X -m dlcommon", ("X", None)),
        ("uv run --project P train", (None, "P")),
        ("uv --project=P run train", (None, "P")),
        ("uv run --project P --package X train", ("X", "P")),
        ("uv run --package A --package B train", ("B", None)),
        ("uv run train", NONE),
        ("uv run -- train --package X", NONE),
        ("uv run train --package X", NONE),
        ("uv run pytest --package X", NONE),
        ("uv run --with --package train", NONE),
        ("uv run - --package X", NONE),
        ("uv run", NONE),
        ("uv pip install --package X", None),
        ("uv sync --package X", None),
        ("uv tool run --package X", None),
        ("uvx --package X train", None),
        ("python -m train --package X", None),
        ("uv", None),
        ("", None),
    ],
)
def test_the_package_of_a_uv_run(line: str, expected: object) -> None:
    assert uv_run_target(line.split()) == expected


@pytest.mark.skipif(UV is None, reason="uv is not on the path")
def test_every_uv_option_that_takes_a_value_is_known() -> None:
    help_text = subprocess.run([str(UV), "help", "run"], capture_output=True, text=True, check=True).stdout
    options = re.findall(r"^ +((?:-\w, )?--[a-z-]+)[^\n<\[]* <[A-Z_]+>", help_text, re.MULTILINE)
    names = {name for option in options for name in option.split(", ")}
    assert {"--package", "-p", "--python", "--project", "--directory"} <= names
    assert names - UV_OPTIONS_WITH_VALUE == set(), "uv learnt an option: its value would be taken for the command"


class Ancestor:
    def __init__(self, line: str | Exception, folder: str = "/") -> None:
        self.line, self.folder = line, folder

    def cmdline(self) -> list[str]:
        if isinstance(self.line, Exception):
            raise self.line
        return self.line.split()

    def cwd(self) -> str:
        return self.folder


class World(Protocol):
    def __call__(
        self, *ancestors: Ancestor, capstones: str = "a-one b-two", variable: str | None = None, cwd: str = ""
    ) -> None: ...


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """Sets the capstones installed, the ancestors, the variable and the current folder."""

    def arrange(
        *ancestors: Ancestor, capstones: str = "a-one b-two", variable: str | None = None, cwd: str = ""
    ) -> None:
        for name in ("a-one", "b-two", "stranger"):
            (tmp_path / name / "src").mkdir(parents=True, exist_ok=True)
            (tmp_path / name / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
        names: dict[str, Any] = dict.fromkeys(capstones.split(), None)
        monkeypatch.setattr(dispatch, "installed", lambda: names)

        class Process:
            def parents(self) -> list[Ancestor]:
                return list(ancestors)

        monkeypatch.setattr(psutil, "Process", Process)
        monkeypatch.delenv(dispatch.VARIABLE, raising=False)
        if variable is not None:
            monkeypatch.setenv(dispatch.VARIABLE, variable)
        monkeypatch.chdir(tmp_path / cwd)

    return arrange


A, B = Ancestor("uv run --package a-one train"), Ancestor("uv run --package b-two train")


def test_the_nearest_uv_run_decides_before_all_else(world: World) -> None:
    world(A, B, variable="b-two", cwd="b-two")
    assert choose("train") == "a-one"
    world(Ancestor("bash"), Ancestor(psutil.AccessDenied(1)), B)
    assert choose("train") == "b-two"


def test_a_nearer_uv_run_that_names_nothing_hides_the_farther(world: World) -> None:
    world(Ancestor("uv run train"), A, cwd="b-two")
    assert choose("train") == "b-two"


def test_names_are_compared_as_packaging_does(world: World) -> None:
    world(Ancestor("uv run --package A_One train"), variable="b-two")
    assert choose("train") == "a-one"
    world(variable="B.Two")
    assert choose("train") == "b-two"


def test_the_project_of_a_uv_run_is_read_from_where_it_was_typed(world: World, tmp_path: Path) -> None:
    world(Ancestor("uv run --project b-two train", str(tmp_path)), variable="a-one")
    assert choose("train") == "b-two"


def test_then_the_variable_then_the_folder_then_the_only_one(world: World) -> None:
    world(variable="b-two", cwd="a-one")
    assert choose("train") == "b-two"
    world(cwd="a-one/src")
    assert choose("train") == "a-one"
    world(capstones="a-one", cwd="stranger")
    assert choose("train") == "a-one"
    world(Ancestor("uv run --package stranger train"), variable="a-one")
    assert choose("train") == "a-one"


def test_otherwise_the_choice_is_listed(world: World) -> None:
    world(cwd="stranger")
    with pytest.raises(UsageError, match=r"a-one, b-two.*uv run --package NAME export"):
        choose("export")
    world(variable="nonesuch")
    with pytest.raises(UsageError, match=r"nonesuch is no installed capstone; installed: a-one, b-two"):
        choose("train")
    world(capstones="")
    with pytest.raises(UsageError, match="Installed: none"):
        choose("train")


def test_a_damaged_project_file_is_passed_over(world: World, tmp_path: Path) -> None:
    world(cwd="a-one/src")
    (tmp_path / "a-one" / "pyproject.toml").write_text("[project\n")
    with pytest.raises(UsageError):
        choose("train")


# -- the real commands


CAPSTONES = sorted(dispatch.installed())


def test_no_other_distribution_owns_the_commands() -> None:
    owned = {*cli.COMMANDS, "data", "results", "lesson"}
    owners = {
        (point.name, distribution.name)
        for distribution in metadata.distributions()
        for point in distribution.entry_points
        if point.group == "console_scripts" and point.name in owned
    }
    assert owners == {(name, "dlcommon") for name in owned}, (
        "two distributions that declare one script overwrite each other's file in .venv/bin, and the command runs "
        "whichever was installed last"
    )


needs_workspace = pytest.mark.skipif(
    UV is None or ROOT is None or not CAPSTONES, reason="needs uv, the workspace and a capstone installed"
)


def help_of(capstone: str, *flags: str, tmp_path: Path) -> str:
    """The name that `uv run --package CAPSTONE train --help` answers with."""
    words = [str(UV), "run", "--no-sync", "--package", capstone, *flags, "train", "--help"]
    done = run(words, environment(tmp_path), cwd=ROOT).check_success()
    found = re.search(r"usage: (\S+) train", done.stdout)
    assert found is not None
    return found[1]


@needs_workspace
def test_uv_run_reaches_each_package_also_in_parallel(tmp_path: Path) -> None:
    asked = CAPSTONES * 2
    with ThreadPoolExecutor(len(asked)) as pool:
        answered = list(pool.map(lambda name: help_of(name, tmp_path=tmp_path), asked))
    assert answered == asked


@needs_workspace
def test_uv_run_goes_before_the_variable_and_the_folder(tmp_path: Path) -> None:
    first, last = CAPSTONES[0], CAPSTONES[-1]
    words = [str(UV), "run", "--no-sync", "--package", first, "--", "train", "--help"]
    done = run(words, environment(tmp_path, DL_CAPSTONE=last), cwd=ROOT).check_success()
    assert f"{first} train" in done.stdout


@needs_workspace
def test_exact_and_isolated_environments_reach_their_package(tmp_path: Path) -> None:
    """In a copy of the workspace with an environment of its own, filled by links into uv's cache."""
    assert ROOT is not None
    cache = Path(subprocess.run([str(UV), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip())
    if not cache.is_dir() or cache.stat().st_dev != tmp_path.stat().st_dev:
        pytest.skip("uv's cache is on another disk, so that an environment would be copied rather than linked")
    copy, venv = tmp_path / "workspace", tmp_path / "environment"
    ignored = shutil.ignore_patterns("__pycache__", "runs", ".venv", "results", "benchmarks")
    shutil.copytree(ROOT / "packages", copy / "packages", ignore=ignored)
    for name in ("pyproject.toml", "uv.lock", "README.md"):
        shutil.copy(ROOT / name, copy)
    env = environment(tmp_path, UV_PROJECT_ENVIRONMENT=str(venv), UV_OFFLINE="1", UV_LINK_MODE="hardlink")
    try:
        for capstone in (*CAPSTONES, CAPSTONES[0]):  # each exact sync removes what only the one before needed
            words = [str(UV), "run", "--exact", "--frozen", "--package", capstone, "train", "--help"]
            done = run(words, env, cwd=copy)
            if "offline" in done.stderr and done.code != 0:
                pytest.skip("uv's cache does not hold all packages")
            assert f"usage: {capstone} train" in done.check_success().stdout
        words = [str(UV), "run", "--isolated", "--frozen", "--package", CAPSTONES[-1], "train", "--help"]
        assert f"usage: {CAPSTONES[-1]} train" in run(words, env, cwd=copy).check_success().stdout
    finally:
        shutil.rmtree(venv, ignore_errors=True)


@pytest.mark.skipif(len(CAPSTONES) < 2, reason="with one capstone installed nothing is to be asked")
@pytest.mark.parametrize(("variable", "words"), [("", "which capstone?"), ("nonesuch", "nonesuch is no installed")])
def test_without_a_hint_the_command_asks_which(variable: str, words: str, tmp_path: Path) -> None:
    # As if typed outside of any `uv run`, whatever this test itself runs under.
    code = "from dlcommon.runtime import cli, dispatch; dispatch._from_ancestors = lambda _: None; cli.train()"
    done = run([sys.executable, "-c", code], environment(tmp_path, DL_CAPSTONE=variable), cwd=tmp_path)
    done.check_refusal(2, words, *CAPSTONES)


HEAVY = ("torch", "gradio", "onnxruntime", "matplotlib", "accelerate", "sklearn", "scipy", "pyarrow", "timm")


def modules_after(code: str, tmp_path: Path) -> list[str]:
    listing = f"import sys, json\ntry:\n    {code}\nexcept SystemExit: pass\nprint(json.dumps(sorted(sys.modules)))"
    done = run([sys.executable, "-c", listing], environment(tmp_path), cwd=tmp_path).check_success()
    modules: list[str] = json.loads(done.stdout.splitlines()[-1])
    return modules


@pytest.mark.parametrize("module", ["dlcommon", *(f"{name.replace('-', '_')}.capstone" for name in CAPSTONES)])
def test_imports_are_light(module: str, tmp_path: Path) -> None:
    loaded = modules_after(f"import {module}", tmp_path)
    assert module in loaded
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize("capstone", CAPSTONES)
@pytest.mark.parametrize("command", ["train", "eval", "export", "serve", "predict"])
def test_help_is_light(command: str, capstone: str, tmp_path: Path) -> None:
    code = f"sys.argv = ['{capstone}', '{command}', '--help']; from dlcommon.runtime import cli; cli.capstone()"
    loaded = modules_after(code, tmp_path)
    assert "tyro" in loaded
    assert not {"torch", "gradio", "onnxruntime", "matplotlib", "accelerate"} & set(loaded)
