"""The plain loop trains as transformers' Trainer does: losses, rates, gradient norms and weights, step by step."""

import copy
import dataclasses
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from dlcommon.nlp.trainer_loop import TrainerConfig, accumulate_gradients, epoch_batches, fine_tune
from dlcommon.transformer.fine_tuning import layerwise_param_groups
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

COUNT = 22
CONFIG = TrainerConfig(
    learning_rate=2e-3, weight_decay=0.1, warmup_steps=2, max_grad_norm=0.5, num_train_epochs=2,
    per_device_train_batch_size=4, gradient_accumulation_steps=2, seed=7,
)  # fmt: skip


def bert() -> Any:
    """Builds the same small classifier each time, with dropout."""
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2, num_labels=3,
    )  # fmt: skip
    return BertForSequenceClassification(shape)


def examples() -> list[dict[str, list[int]]]:
    """Draws texts of different lengths, with their classes."""
    generator = torch.Generator().manual_seed(1)
    rows = []
    for number in range(COUNT):
        length = int(torch.randint(3, 9, (), generator=generator))
        ids = torch.randint(1, 30, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "labels": [number % 3]})
    return rows


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows])
    labels = torch.tensor([row["labels"][0] for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def summed_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """Divides the summed loss by the labels of all accumulated batches.

    BERT's classifier ignores `num_items_in_batch`, and Trainer then adds up the means of the batches
    (https://github.com/huggingface/transformers/issues/47688).
    """
    loss: torch.Tensor = F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch
    return loss


def trainer(model: Any, config: TrainerConfig, folder: Path, **options: Any) -> Trainer:
    """Builds a Trainer with the same settings, which logs each step."""
    settings = dataclasses.asdict(config)
    del settings["layer_decay"]
    arguments = TrainingArguments(
        output_dir=str(folder), logging_steps=1, save_strategy="no", disable_tqdm=True, use_cpu=True,
        remove_unused_columns=False, dataloader_pin_memory=False, **settings,
    )  # fmt: skip
    return Trainer(
        model, arguments, train_dataset=examples(), data_collator=collate, compute_loss_func=summed_loss, **options
    )


def require_equal(ours: Any, theirs: Any, steps: list[Any], logged: list[dict[str, float]]) -> None:
    """Compares all steps and the trained weights; Trainer's fused AdamW rounds a little differently."""
    records = [each for each in logged if "grad_norm" in each]
    assert len(records) == len(steps)
    for name in ("loss", "learning_rate", "grad_norm"):
        expected = torch.tensor([float(each[name]) for each in records])
        found = torch.tensor([getattr(step, name) for step in steps])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0, "gradient_accumulation_steps": 1},
        {"max_grad_norm": 0.0, "gradient_accumulation_steps": 3, "seed": 8},
    ],
)
def test_every_step_is_that_of_trainer(change: dict[str, Any], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, **change)
    ours, theirs = bert(), bert()
    steps = fine_tune(ours, examples(), collate, config)
    reference = trainer(theirs, config, tmp_path)
    reference.train()
    assert steps[-1].loss != steps[0].loss
    require_equal(ours, theirs, steps, reference.state.log_history)


def test_layerwise_rates_are_those_of_trainer_with_an_optimizer_of_ones_own(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, layer_decay=0.5)

    def parts(model: Any) -> list[nn.Module]:
        return [model.bert.embeddings, *model.bert.encoder.layer, nn.ModuleList([model.bert.pooler, model.classifier])]

    ours, theirs = bert(), bert()
    steps = fine_tune(ours, examples(), collate, config, parts(ours))
    optimizer = torch.optim.AdamW(layerwise_param_groups(parts(theirs), 2e-3, decay=0.5, weight_decay=0.1))
    schedule = LambdaLR(optimizer, lambda step: min(step / 2, (6 - step) / 4))
    reference = trainer(theirs, config, tmp_path, optimizers=(optimizer, schedule))
    reference.train()
    for record in reference.state.log_history:
        if "learning_rate" in record:  # it logs the rate of the first group
            record["learning_rate"] *= 8
    require_equal(ours, theirs, steps, reference.state.log_history)


def test_defaults_are_those_of_training_arguments(tmp_path: Path) -> None:
    theirs = TrainingArguments(output_dir=str(tmp_path))
    for field in dataclasses.fields(TrainerConfig):
        if field.name != "layer_decay":
            assert getattr(theirs, field.name) == field.default, field.name


def test_what_is_decayed_is_what_trainer_decays(tmp_path: Path) -> None:
    model = bert()
    decayed = set(trainer(model, CONFIG, tmp_path).get_decay_parameter_names(model))
    groups = layerwise_param_groups([model], 1e-3, decay=1.0, weight_decay=0.1)
    ids = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert {name for name, p in model.named_parameters() if id(p) in ids} == decayed


def test_gradients_do_not_depend_on_how_the_labels_are_divided_among_batches() -> None:
    rows, model = examples(), bert().eval()
    expected = accumulate_gradients(model, [collate(rows)])
    whole = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    found = accumulate_gradients(model, [collate(rows[:3]), collate(rows[3:20]), collate(rows[20:])])
    assert found == pytest.approx(expected, rel=1e-5)
    for mine, other in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(mine.grad, other, rtol=1e-4, atol=1e-6)


def test_an_epoch_reads_each_example_once_in_an_order_of_its_own() -> None:
    first, second = (epoch_batches(COUNT, epoch, CONFIG) for epoch in (0, 1))
    assert [len(batch) for batch in first] == [4, 4, 4, 4, 4, 2]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(COUNT))
    assert first != second
    torch.manual_seed(99)
    assert epoch_batches(COUNT, 0, CONFIG) == first
    assert epoch_batches(COUNT, 0, dataclasses.replace(CONFIG, seed=8)) == second


def test_a_second_training_is_the_same() -> None:
    model = bert()
    again = copy.deepcopy(model)
    assert fine_tune(model, examples(), collate, CONFIG) == fine_tune(again, examples(), collate, CONFIG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_train_epochs": 0}, "num_train_epochs must be at least 1, not 0"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps"),
        ({"warmup_steps": -1}, "must not be negative"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)
