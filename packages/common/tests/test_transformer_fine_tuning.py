"""What is trained in a pretrained encoder, and how fast."""

import pytest
import torch
from dlcommon.transformer.bert import Bert, BertConfig, BertForSequenceClassification
from dlcommon.transformer.fine_tuning import freeze_all_but_last, layerwise_param_groups
from torch import nn


def parts() -> list[nn.Module]:
    return [nn.Embedding(5, 4), nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), nn.Linear(4, 2)]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_only_the_last_parts_are_trained(count: int) -> None:
    network = parts()
    nn.ModuleList(network).requires_grad_(count % 2 == 0)  # whatever it was before
    freeze_all_but_last(network, count)
    trained = [all(p.requires_grad for p in part.parameters()) for part in network]
    frozen = [not any(p.requires_grad for p in part.parameters()) for part in network]
    assert trained == [False] * (3 - count) + [True] * count
    assert frozen == [not each for each in trained]


@pytest.mark.parametrize("count", [-1, 4])
def test_more_parts_than_there_are_cannot_be_trained(count: int) -> None:
    with pytest.raises(ValueError, match=f"count must be from 0 to 3, not {count}"):
        freeze_all_but_last(parts(), count)


def test_rates_fall_towards_the_input_and_vectors_do_not_decay() -> None:
    network = parts()
    groups = layerwise_param_groups(network, 1e-3, decay=0.5, weight_decay=0.1)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found) == 7
    for part, rate in zip(network, (2.5e-4, 5e-4, 1e-3), strict=True):
        for p in part.parameters():
            assert found[id(p)] == pytest.approx((rate, 0.1 if p.ndim == 2 else 0.0))
    optimizer = torch.optim.AdamW(groups)
    assert len(optimizer.param_groups) == 5  # the embedding has no vector


def test_frozen_parts_are_in_no_group() -> None:
    network = parts()
    freeze_all_but_last(network, 1)
    groups = layerwise_param_groups(network, 1e-3, decay=0.9)
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in network[2].parameters()}
    assert {group["lr"] for group in groups} == {1e-3}


@pytest.mark.parametrize("decay", [0.0, 1.1, -1.0])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay must be above 0 and at most 1"):
        layerwise_param_groups(parts(), 1e-3, decay=decay)


def test_the_parts_of_bert_are_all_of_it_in_order() -> None:
    config = BertConfig(vocab_size=9, dim=4, num_layers=3, num_heads=2, feedforward_dim=6, max_tokens=5)
    model = BertForSequenceClassification(Bert(config), 2)
    listed = [id(parameter) for part in model.parts() for parameter in part.parameters()]
    assert len(model.parts()) == 5
    assert listed == [id(parameter) for parameter in model.parameters()]
    freeze_all_but_last(model.parts(), 2)
    trained = {name.removeprefix("bert.").split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"encoder", "pooler", "classifier"}
    assert not any(p.requires_grad for p in model.bert.encoder.layers[1].parameters())
