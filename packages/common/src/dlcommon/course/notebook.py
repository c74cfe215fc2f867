"""A lesson as a Jupyter notebook that also works outside the workspace."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

from dlcommon.course.catalogue import Lesson, lessons_folder
from dlcommon.course.cells import Language, readable_cells
from dlcommon.course.practice import exercises_root
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.output import Output

Opener = Literal["auto", "editor", "notebook"]

FIRST_CELL = """# Installs dlcommon where it is missing, and records progress. 缺少 dlcommon 时安装它，并记录进度。
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("dlcommon") is None:
    pip = [sys.executable, "-m", "pip", "install"]
    if importlib.util.find_spec("pip") is None:
        pip = ["uv", "pip", "install", "--python", sys.executable]
    subprocess.run([*pip, "{requirement}"], check=True)

from dlcommon.course import session

session.begin("{name}", "{language}")"""
LAST_CELL = "session.finish()"


def write_notebook(lesson: Lesson, path: Path, language: Language, replace: bool = False) -> None:
    """Writes a lesson as a Jupyter notebook.

    Raises:
        UsageError: the path does not end in `.ipynb`.
        UserError: nbformat is not installed, or the file exists and `replace` is false.
    """
    try:
        import nbformat
    except ImportError:
        raise UserError("notebooks are written with nbformat; add it with `uv add 'dlcommon[course]'`") from None

    if path.suffix != ".ipynb":
        raise UsageError(f"--output {path}: a notebook's name ends in .ipynb")
    if path.exists() and not replace:
        raise UserError(f"{path} is there already and may hold your work; --replace writes it anew")
    v4: Any = nbformat.v4
    first = FIRST_CELL.format(requirement=requirement(), name=lesson.name, language=language)
    cells: list[Any] = [v4.new_code_cell(first)]
    for cell in readable_cells(lesson.cells(), language):
        new = v4.new_markdown_cell if cell.kind == "markdown" else v4.new_code_cell
        cells.append(new(cell.text, metadata={"lang": cell.language} if cell.language else {}))
    # The title stays on top.
    cells[0], cells[1] = cells[1], cells[0]
    cells.append(v4.new_code_cell(LAST_CELL))
    notebook = v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    write_bytes(path, v4.writes(notebook).encode())


def default_path(lesson: Lesson) -> Path:
    """Returns the notebook's default path: the name of the lesson's file with `.ipynb`, in the current directory."""
    return Path(f"{lesson.path.stem}.ipynb")


def requirement() -> str:
    """Returns the pip requirement for dlcommon: the repository this checkout was cloned from, else the checkout."""
    package = lessons_folder().parent
    command = ["git", "-C", str(package), "config", "--get", "remote.origin.url"]
    try:
        origin = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        origin = ""
    if origin.startswith("https://"):
        return f"dlcommon[course] @ git+{origin}#subdirectory=packages/common"
    return f"dlcommon[course] @ {package.resolve().as_uri()}"


def open_lesson(lesson: Lesson, where: Opener, language: Language, output: Output) -> int:
    """Opens the lesson in the editor that VISUAL or EDITOR names, or as a notebook in Jupyter.

    Raises:
        UserError: the editor or Jupyter is missing or cannot be started.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if where == "editor" or (where == "auto" and editor):
        if not editor:
            raise UserError('set EDITOR to your editor\'s command, such as `export EDITOR="code --wait"`')
        command = [*shlex.split(editor), str(lesson.path)]
    else:
        path = exercises_root() / "notebooks" / f"{lesson.name}.ipynb"
        if not path.exists():
            write_notebook(lesson, path, language)
        jupyter = shutil.which("jupyter-lab")
        uv = shutil.which("uv")
        if jupyter is None and uv is None:
            raise UserError(f"install JupyterLab (`pip install jupyterlab`) to open {path}, or set EDITOR")
        command = (
            [jupyter, str(path)] if jupyter else [str(uv), "run", "--with", "jupyterlab", "jupyter", "lab", str(path)]
        )
    output.say(shlex.join(command))
    try:
        code = subprocess.call(command)
    except OSError as error:
        raise UserError(f"cannot start {command[0]}: {error.strerror}") from error
    output.result({"lesson": lesson.key, "command": command, "exit_code": code})
    return code
