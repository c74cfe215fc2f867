"""The layers of the house, and no import in a circle, wherever in a file and for whatever purpose it stands."""

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import entry_points
from pathlib import Path

import dlcommon
import grimp
import pytest
from dlcommon.runtime.dispatch import GROUP
from grimp import ImportGraph, Layer

UPPER = {"dlcommon.runtime", "dlcommon.course", "dlcommon.site", "dlcommon.testing"}
CONSOLE_SCRIPTS = "dlcommon.runtime.cli"
"""Stands above all else, since it starts the lessons' command as well."""


def capstone_packages() -> list[str]:
    return sorted({point.module.partition(".")[0] for point in entry_points(group=GROUP)})


@pytest.fixture
def graph() -> ImportGraph:
    """Every import statement of dlcommon and of the capstones installed, those for type checking included."""
    return grimp.build_graph("dlcommon", *capstone_packages(), cache_dir=None)


@pytest.fixture
def phases(graph: ImportGraph) -> set[str]:
    """The course's foundations: whatever is in dlcommon besides the runtime, the lessons' frame and the test kit."""
    return graph.find_children("dlcommon") - UPPER


def chains(graph: ImportGraph, *layers: Layer | str) -> Iterator[str]:
    """Imports that run from a lower layer to a higher one."""
    for dependency in graph.find_illegal_dependencies_for_layers(layers=layers):
        for route in dependency.routes:
            yield " -> ".join([*sorted(route.heads), *route.middle, *sorted(route.tails)])


def test_no_import_runs_in_a_circle(graph: ImportGraph) -> None:
    order = TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    try:
        order.prepare()
    except CycleError as error:
        pytest.fail(" imports\n".join(reversed(error.args[1])))


def test_dependencies_point_from_capstones_to_the_runtime_to_the_foundations(
    graph: ImportGraph, phases: set[str]
) -> None:
    assert len(phases) >= 8, phases
    graph.remove_module(CONSOLE_SCRIPTS)
    capstones = Layer(*capstone_packages(), independent=True)
    below = (
        "dlcommon.testing",
        "dlcommon.site",
        "dlcommon.course",
        "dlcommon.runtime",
        Layer(*phases, independent=False),
    )
    assert not list(chains(graph, *([capstones] if capstones.module_tails else []), *below))


def test_the_package_itself_imports_nothing(graph: ImportGraph) -> None:
    assert dlcommon.__name__ in graph.modules
    assert not graph.find_modules_directly_imported_by("dlcommon")


DOCUMENT = Path(__file__).parents[3] / "docs" / "ARCHITECTURE.md"


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="needs the workspace")
def test_the_architecture_page_names_every_module_of_the_runtime(graph: ImportGraph) -> None:
    named = set(re.findall(r"`(\w+)/?`", DOCUMENT.read_text(encoding="utf-8")))
    modules = {name.rpartition(".")[2] for name in graph.find_children("dlcommon.runtime")}
    assert len(modules) > 40
    assert sorted(modules - named) == []
