"""What the server answers about a house, through the model that the package carries."""

from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.testing.service_answers import batched_answers
from house_prices.capstone import CAPSTONE
from house_prices.page import EXAMPLES, dollars
from house_prices.service import HOUSE, HouseService
from pydantic import ValidationError


@pytest.fixture(scope="module")
def service() -> HouseService:
    path = packaged_model(CAPSTONE)
    assert path is not None
    return HouseService(OnnxModel(path))


def test_contributions_add_up_to_the_price(service: HouseService) -> None:
    for answer in batched_answers(service, *({**example, "explain": True} for example in EXAMPLES.values())):
        assert answer.contributions is not None
        assert answer.baseline is not None
        assert answer.baseline + sum(answer.contributions.values()) == pytest.approx(answer.price, rel=1e-4)


def test_a_price_lies_within_its_interval_and_near_its_models(service: HouseService) -> None:
    for answer in batched_answers(service, {}, HOUSE, *EXAMPLES.values()):
        assert answer.low < answer.price < answer.high
        assert min(answer.models.values()) <= answer.price * 1.001
        assert answer.price <= max(answer.models.values()) * 1.001


def test_larger_newer_and_better_is_dearer(service: HouseService) -> None:
    family, new, cottage = batched_answers(service, *EXAMPLES.values())
    assert cottage.price < family.price < new.price
    better, larger = batched_answers(
        service, {**HOUSE, "OverallQual": 8}, {**HOUSE, "GrLivArea": 2200, "2ndFlrSF": 1100}
    )
    (base,) = batched_answers(service, HOUSE)
    assert better.price > base.price
    assert larger.price > base.price


def test_a_row_of_kaggles_file_means_what_training_read_in_it(service: HouseService) -> None:
    row = {
        "Alley": "NA",
        "BsmtQual": " NA",
        "MasVnrType": "None",
        "LotFrontage": "NA",
        "Fence": "",
        "GrLivArea": "1500",
    }
    item = service.item_from_row({**row, "Id": "1461"})
    assert item == {"Alley": "None", "BsmtQual": "None", "MasVnrType": "None", "GrLivArea": 1500.0}


def test_a_value_outside_of_what_was_trained_on_is_said(service: HouseService) -> None:
    usual, large = batched_answers(service, HOUSE, {**HOUSE, "GrLivArea": 9000, "YearBuilt": 1750})
    assert usual.unusual == []
    assert [text.split(", outside what was trained on (")[0] for text in large.unusual] == [
        f"{column.name} is {value}" for column in service.columns
        for name, value in (("GrLivArea", "9000"), ("YearBuilt", "1750")) if column.name == name
    ]  # fmt: skip


def test_similar_houses_sold_for_similar_prices(service: HouseService) -> None:
    for answer in batched_answers(service, *EXAMPLES.values()):
        distances = [house.distance for house in answer.similar]
        assert distances == sorted(distances)
        median = float(np.median([house.price for house in answer.similar]))
        assert 0.7 < median / answer.price < 1.4


def test_nothing_known_is_a_typical_house_and_is_said(service: HouseService) -> None:
    (answer,) = batched_answers(service, {})
    assert answer.unknown == [column.name for column in service.columns]
    (null,) = batched_answers(service, {column.name: None for column in service.columns})
    assert null.price == answer.price
    assert answer.contributions is None


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"Neighborhood": "Atlantis"}, "Neighborhood is 'Atlantis', none of NAmes"),
        ({"GrLivArea": -5}, "GrLivArea is -5, not an area"),
        ({"GrLivArea": "large"}, "number"),
        ({"OverallQual": True}, "number"),
        ({"LotArea": float("inf")}, "LotArea is inf, not an area"),
        ({"LotArea": 1e300}, "LotArea is 1e+300, not an area from 0 to 10,000,000"),
        ({"GrLivArea": 1e10}, "GrLivArea is 1e+10, not an area from 0 to 100,000"),
        ({"YearBuilt": 99_999}, "YearBuilt is 99999, not a year"),
        ({"OverallQual": 1000}, "OverallQual is 1000, not from 1 to 10"),
        ({"MoSold": 13}, "MoSold is 13, not a month"),
        ({"KitchenQual": 5}, "string"),
        ({"Price": 1}, "Extra"),
        ({"explain": "yes"}, "boolean"),
    ],
)
def test_what_no_house_has_is_refused(service: HouseService, item: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        service.item.model_validate(item)
    assert reason in str(caught.value)


@pytest.mark.parametrize(("value", "signed", "shown"), [
    (163_249.0, False, "$163,200"), (0.2, True, "+$0"), (-1_260.0, True, "-$1,300"), (1_260.0, True, "+$1,300"),
])  # fmt: skip
def test_dollars(value: float, signed: bool, shown: str) -> None:
    assert dollars(value, signed) == shown
