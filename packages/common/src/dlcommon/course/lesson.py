"""What a lesson is written with: claims that must hold, figures, tables, data, source code, questions, an exercise.

A lesson is a script in `# %%` cells. It runs with `lesson run`, as a plain script, cell by cell in an editor, or as a
notebook; these functions do the right thing in each. Importing this module seeds the random generators and keeps the
process to one thread, so that a lesson gives the same numbers however it is started.
"""

import inspect
import os
import sys
import timeit
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from dlcommon.course import session
from dlcommon.course.exercises import exercise as exercise
from dlcommon.course.module_source import module_source
from dlcommon.course.questions import quiz as quiz
from dlcommon.course.questions import settle as settle
from dlcommon.course.recorder import recorded
from dlcommon.course.session import CheckFailedError as CheckFailedError
from dlcommon.course.viewer import show_code
from dlcommon.runtime.data import ASSETS, find, find_asset
from dlcommon.runtime.data.locate_asset import how_to_get
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.run_directory import runs_root

if TYPE_CHECKING:
    from matplotlib.figure import Figure

session.prepare_process()

checked = session.checked
"""Claims of the running lesson that held."""


def check(claim: str, holds: object) -> None:
    """Checks a claim that the lesson makes.

    Args:
        claim: the claim, as a sentence.
        holds: whether the claim is true of what the lesson has just computed.

    Raises:
        CheckFailedError: the claim does not hold.
    """
    if not bool(holds):
        raise CheckFailedError(claim)
    checked.append(claim)
    if not recorded("check", claim=claim):
        print(f"  ✓ {claim}")


def check_close(claim: str, ours: Any, reference: Any, tolerance: float = 1e-5) -> None:
    """Checks that two results, arrays or tensors of one shape, agree up to `tolerance`, absolute or relative.

    Raises:
        CheckFailedError: they do not; the message says by how much.
    """
    found, expected = (np.asarray(_array(values), dtype=np.float64) for values in (ours, reference))
    if found.shape != expected.shape:
        raise CheckFailedError(f"{claim}: shapes {found.shape} and {expected.shape}")
    difference = np.abs(found - expected)
    largest = float(difference.max(initial=0.0))
    if not bool((difference <= tolerance * np.maximum(1.0, np.abs(expected))).all()):
        pattern = _pattern(found, expected, tolerance)
        raise CheckFailedError(f"{claim}: differs by {largest:.2g}, more than {tolerance:g}{pattern}")
    checked.append(claim)
    if not recorded("check", claim=claim, difference=f"{largest:.1e}"):
        print(f"  ✓ {claim} (largest difference {largest:.1e})")


def _pattern(found: Any, expected: Any, tolerance: float) -> str:
    """Describes how two arrays differ if that points at the mistake (sign, scale, transposed)."""
    if not np.isfinite(found).all():
        return "; it is infinite or not a number in places"
    if not found.any():
        return "; it is 0 everywhere"
    scale = float((found * expected).sum() / (expected * expected).sum()) if expected.any() else 0.0
    if scale and np.allclose(found, scale * expected, rtol=tolerance, atol=tolerance * abs(scale)):
        return "; only its sign is wrong" if abs(scale + 1) < 1e-6 else f"; it is {scale:.4g} times as large throughout"
    if found.ndim == 2 and found.shape[0] == found.shape[1] and np.allclose(found.T, expected, rtol=tolerance):
        return "; it is transposed"
    return ""


def _array(values: Any) -> Any:
    return values.detach().cpu() if hasattr(values, "detach") else values


def show(figure: "Figure", name: str) -> Path | None:
    """Saves a figure as `name.png` in the lesson's folder; in a notebook, displays it instead.

    Returns:
        The path of the file, or None in a notebook.
    """
    import matplotlib.pyplot as plt

    if "ipykernel" in sys.modules:
        from IPython.display import display

        display(figure)
        plt.close(figure)
        return None
    path = figures_folder() / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
    if not recorded("figure", name=path.name):
        print(f"  figure: {path}")
    return path


def figures_folder() -> Path:
    """Returns the folder for the running lesson's figures: `DL_FIGURES_DIR`, or its own folder in `runs/lessons`."""
    if chosen := os.environ.get("DL_FIGURES_DIR"):
        return Path(chosen)

    return runs_root() / "lessons" / _running_lesson()


def _running_lesson() -> str:
    """Returns the name of the running lesson, such as `05-cnn/07-resnet`.

    The name comes from the notebook's first cell or from the file of the nearest caller outside this module.
    """
    if session.lesson_name is not None:
        return session.lesson_name
    for frame in inspect.stack():
        if frame.filename != __file__ and Path(frame.filename).suffix == ".py":
            return f"{Path(frame.filename).parent.name}/{Path(frame.filename).stem}"
    return "notebook"


def source(target: Any) -> None:
    """Shows the source of a function, method or class as it stands in its module.

    Raises:
        UserError: its module has no file.
    """
    module = module_source(target.__module__)
    first, _ = module.lines_of(module.find(target.__qualname__))
    code, place = module.source(target.__qualname__), f"{module.place}:{first}"
    if "ipykernel" in sys.modules:
        from IPython.display import Markdown, display

        display(Markdown(f"`{place}`\n\n```python\n{code}\n```"))
        return
    if recorded("source", module=module.name, place=place, code=code):
        return
    print(f"  {place}")
    if not sys.stdout.isatty():
        print("\n".join(f"    {line}".rstrip() for line in code.split("\n")))
        return

    show_code(code, Console())


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints rows as aligned columns, with floats to four significant digits."""
    cells = [[str(header) for header in headers], *([_cell(value) for value in row] for row in rows)]
    if recorded("table", rows=cells):
        return
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    for number, row in enumerate(cells):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def data(*names: str) -> Any:
    """Loads the first of these data sets that is on this machine and prints which one it is. Downloads nothing.

    Name a built-in data set last, so that the lesson runs everywhere.

    Raises:
        UserError: none of them is on this machine.
    """
    for name in names:
        if (located := find(name)) is not None:
            print(f"  data: {located.describe()}")
            return located.load()
    raise UserError(f"this lesson needs {' or '.join(names)}; type `data fetch {names[0]}`")


def asset(name: str) -> Path | None:
    """Finds what others have trained, such as pretrained weights, and prints where it is. Downloads nothing.

    Returns:
        The folder of its files; or `None` where it is not on this machine, after printing how to get it.
    """
    located = find_asset(name)
    if located is None:
        print(f"  asset: {name} is not on this machine; {how_to_get(ASSETS.find(name))}")
        return None
    print(f"  asset: {located.describe()}")
    return located.path


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Times several calls and returns the fastest in seconds, since it was disturbed least."""
    return min(timeit.repeat(action, number=1, repeat=repeats))
