"""A capstone's rooms are found by their names, and what is missing is named."""

import sys
from pathlib import Path
from typing import Any, cast

import pytest
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.dispatch import installed, load
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric
from dlcommon.testing.toy_colours.capstone import TOY

NOTHING: Any = None
CONFIG = """
from dataclasses import dataclass
from dlcommon.runtime.config import RunConfig

@dataclass(frozen=True)
class Config(RunConfig):
    pass
"""
SERVICE = """
from dlcommon.runtime.serving.service import BatchedService

class {name}(BatchedService):
    def __init__(self, model):
        self.model = model
    def prepare(self, item):
        return {{}}
    def answer_for(self, item, outputs):
        return item
"""


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Declares a capstone whose package holds these rooms, by name."""

    def declare(**rooms: str) -> Capstone[Any]:
        package = tmp_path / "project" / "src" / "roomy_toy"
        package.mkdir(parents=True)
        for name, source in {"__init__": "", "config": CONFIG, **rooms}.items():
            (package / f"{name}.py").write_text(source)
        config = __import__("roomy_toy.config").config.Config
        title = LocalizedText("A toy", "玩具")
        return Capstone(
            name="roomy-toy", title=title, summary=title, config=config, data_sets=(), headline=Metric("accuracy")
        )

    monkeypatch.syspath_prepend(tmp_path / "project" / "src")
    yield declare
    for name in [name for name in sys.modules if name.partition(".")[0] == "roomy_toy"]:
        del sys.modules[name]


def test_rooms_are_found_beside_the_config(declared: Any, tmp_path: Path) -> None:
    data = "def own_data(config): return 'own'"
    capstone = declared(train="def train(run): run.append('trained')", data=data, service=SERVICE.format(name="Only"))
    log: list[str] = []
    capstone.train(cast(Any, log))
    assert log == ["trained"]
    assert capstone.own_data(capstone.config()) == "own"
    assert type(capstone.service(cast(Any, "a model"))).__name__ == "Only"
    assert capstone.folder == tmp_path / "project"


def test_the_room_data_may_hold_data_sets_alone(declared: Any) -> None:
    capstone = declared(data="DATA_SET = 'brought by an entry point'")
    assert capstone.own_data(capstone.config()) is None


def test_a_missing_room_is_named_with_its_file() -> None:
    for room, action in (("page", lambda: TOY.page(NOTHING, NOTHING)), ("service", lambda: TOY.service(NOTHING))):
        with pytest.raises(UserError, match=rf"toy has no .*toy_colours/{room}\.py; write it"):
            action()
    assert TOY.own_data(TOY.config()) is None, "a capstone may do without the room `data`"


def test_a_room_without_its_function_is_named(declared: Any) -> None:
    with pytest.raises(UserError, match=r"roomy_toy/evaluate\.py defines no function evaluate"):
        declared(evaluate="def assess(): ...").evaluate(NOTHING, NOTHING, None)


def test_an_error_within_a_room_is_no_missing_function(declared: Any) -> None:
    with pytest.raises(AttributeError, match="nonesuch"):
        declared(train="import sys\nsys.nonesuch\ndef train(run): ...").train(NOTHING)


def test_a_room_with_two_services_is_ambiguous(declared: Any) -> None:
    two = declared(service=SERVICE.format(name="One") + SERVICE.format(name="Other"))
    with pytest.raises(UserError, match=r"service\.py must define one subclass of Service, but defines One, Other"):
        two.service(NOTHING)


@pytest.mark.parametrize("name", sorted(installed()))
def test_a_declaration_is_short_and_says_all_that_a_command_needs(name: str) -> None:
    capstone = load(name)
    assert capstone.name == name
    assert (capstone.folder / "pyproject.toml").is_file()
    file = sys.modules[capstone.config.__module__.rpartition(".")[0] + ".capstone"].__file__
    assert file is not None
    assert len(Path(file).read_text(encoding="utf-8").splitlines()) <= 32
    for preset in (None, *capstone.presets):
        assert isinstance(capstone.defaults(preset), capstone.config)
