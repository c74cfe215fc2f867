"""What the server answers about a row, through the model that the package carries."""

import json
from typing import Any

import pytest
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.testing.service_answers import batched_answers
from eda_titanic.capstone import CAPSTONE
from eda_titanic.service import PASSENGER, RowService
from pydantic import ValidationError


@pytest.fixture(scope="module")
def service() -> RowService:
    path = packaged_model(CAPSTONE)
    assert path is not None
    return RowService(OnnxModel(path))


def test_contributions_add_up_to_the_answer(service: RowService) -> None:
    man = {**PASSENGER, "explain": True}
    lady = {"Pclass": 1, "Sex": "female", "Name": "Bukater, Miss. Rose", "Age": 17, "Fare": 110, "explain": True}
    for answer in batched_answers(service, man, lady):
        assert answer.contributions is not None
        assert answer.baseline is not None
        contributions = answer.contributions
        total = answer.baseline + sum(contributions.values())
        assert total == pytest.approx(answer.probabilities["survived"], abs=1e-5)
        assert max(contributions, key=lambda name: abs(contributions[name])) == "Sex and title"


def test_the_women_of_the_first_class_and_the_men_of_the_third(service: RowService) -> None:
    man, lady = batched_answers(
        service, PASSENGER, {**PASSENGER, "Sex": "female", "Pclass": 1, "Name": "Dawson, Miss. J", "Fare": 80}
    )
    assert man.answer == "died"
    assert lady.answer == "survived"
    assert lady.probabilities["survived"] > 0.85 > 0.25 > man.probabilities["survived"]


def test_nothing_known_is_answered_and_said(service: RowService) -> None:
    answer = batched_answers(service, {})[0]
    assert answer.unknown == [column.name for column in service.columns]
    assert answer.contributions is None
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    null = batched_answers(service, {column.name: None for column in service.columns})[0]
    assert null.probabilities == answer.probabilities


def test_a_value_outside_of_what_was_trained_on_is_said(service: RowService) -> None:
    usual, old = batched_answers(service, PASSENGER, {**PASSENGER, "Age": 110})
    assert usual.unusual == []
    assert len(old.unusual) == 1
    assert old.unusual[0].startswith("Age is 110, outside what was trained on (")


def test_a_batch_answers_each_row_as_alone(service: RowService) -> None:
    items: list[dict[str, Any]] = [PASSENGER, {}, {**PASSENGER, "Age": None, "explain": True}, {"Sex": "female"}]
    together = batched_answers(service, *items)
    for item, answer in zip(items, together, strict=True):
        alone = batched_answers(service, item)[0]
        assert alone.probabilities == pytest.approx(answer.probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"Pclass": 5}, "Pclass is 5, not 1, 2 or 3"),
        ({"Pclass": 1.5}, "Pclass is 1.5, not 1, 2 or 3"),
        ({"Age": 200}, "Age is 200, not between 0 and 120"),
        ({"SibSp": 99}, "SibSp is 99, not between 0 and 50"),
        ({"Sex": "robot"}, "Sex is 'robot', none of male, female"),
        ({"Embarked": "X"}, "Embarked is 'X'"),
        ({"Fare": -1}, "Fare is -1, not from 0 to 10,000"),
        ({"Age": "old"}, "number"),
        ({"Age": True}, "number"),
        ({"Age": float("nan")}, "finite"),
        ({"Fare": 1e300}, "Fare is 1e+300, not from 0 to 10,000"),
        ({"Name": "x" * 10_001}, "at most 10000"),
        ({"Name": 7}, "string"),
        ({"Shoe": 43}, "Extra"),
        ({"explain": "yes"}, "boolean"),
    ],
)
def test_what_no_passenger_has_is_refused(service: RowService, item: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        service.item.model_validate(item)
    assert reason in str(caught.value)


def test_the_model_carries_no_passenger(service: RowService) -> None:
    """The rows that answers are compared with are drawn column by column, and names are cut to their titles."""
    background = json.loads(service.model.metadata["background"])
    assert set(background["Name"]) <= {f"—, {title}. —" for title in ("Mr", "Mrs", "Miss", "Master", "Other")}
    assert set(background["Ticket"]) == {None}
    assert {len(values) for values in background.values()} == {40}
