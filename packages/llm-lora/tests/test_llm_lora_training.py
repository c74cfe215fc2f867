"""Each kind of adapter and both stages train; peft reads what was trained."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from dlcommon.nlp.lora import lora_layers
from dlcommon.runtime.locate_model import open_run
from dlcommon.testing.commands import environment
from dlcommon.testing.forked import run_forked
from dlcommon.testing.killing import only_run
from dlcommon.testing.transformers_llama import to_transformers
from llm_lora.bases import tiny_base
from llm_lora.capstone import CAPSTONE
from llm_lora.model import load_tuned

FLAGS = ("--base", "tiny", "--data", "generated-instructions", "--learning-rate", "0.01", "--precision", "fp32")


def train(runs: Path, *flags: str) -> Path:
    run_forked(["llm-lora", "train", *FLAGS, *flags], environment(runs)).check_success()
    return only_run(runs)


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "flags",
    [
        ("--method", "lora"),
        ("--method", "rslora", "--lora-dropout", "0.1"),
        ("--method", "dora"),
        ("--method", "pissa"),
        ("--method", "full", "--learning-rate", "0.003"),
        ("--quantize", "nf4"),
        ("--gradient-checkpointing",),
    ],
    ids=lambda flags: "-".join(flags),
)
def test_each_method_learns(flags: tuple[str, ...], tmp_path: Path) -> None:
    run = train(tmp_path / "runs", *flags, "--epochs", "0.3", "--evaluate-every", "0.1")
    losses = [row["validation_loss"] for row in rows(run)]
    assert losses[-1] < losses[0] < 5.65, "a network that knows nothing has a loss of log 258 = 5.55"
    summary = json.loads((run / "summary.json").read_text())
    # What was trained and what is exported are the same network.
    assert summary["test"]["metrics"]["loss"] == pytest.approx(losses[-1], abs=0.1)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("tuned"), "--epochs", "0.5", "--targets", "q_proj", "down_proj")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_peft_computes_what_was_trained(tuned: Path) -> None:
    base = tiny_base()
    adapted = peft.PeftModel.from_pretrained(to_transformers(base.network), tuned / "adapter").eval()
    ours = load_tuned(open_run(CAPSTONE, tuned)).network
    tokens = torch.randint(base.network.config.vocab_size, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(adapted(tokens).logits, ours(tokens))
        assert (ours(tokens) - base.network(tokens)).abs().max() > 0.01
    assert len(lora_layers(ours)) == 4


def test_preferences_are_learned_from_where_an_adapter_ended(tuned: Path, tmp_path: Path) -> None:
    flags = ("--stage", "dpo", "--adapter", str(tuned / "adapter"), "--epochs", "0.5", "--evaluate-every", "0.1")
    run = train(tmp_path / "runs", *flags)
    found = rows(run)
    assert found[0]["validation_loss"] == pytest.approx(0.693, abs=0.1)  # log 2, where nothing is preferred yet
    assert found[-1]["validation_loss"] < found[0]["validation_loss"]
    assert found[-1]["validation_margin"] > 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--targets", "nonesuch"), "nonesuch"),
        (("--adapter", "/nonesuch"), "/nonesuch"),
        (("--base", "nonesuch"), "no asset 'nonesuch'"),
        (("--row-length", "16", "--batch-size", "16"), "longer than a row of 16"),
        (("--batch-size", "1000"), "multiple of row_length"),
        (("--method", "full", "--quantize", "nf4"), "not quantized"),
    ],
)
def test_what_does_not_fit_is_refused(flags: tuple[str, ...], words: str, tmp_path: Path) -> None:
    run_forked(["llm-lora", "train", *FLAGS, *flags], environment(tmp_path)).check_refusal(2, words)
    assert not list(tmp_path.glob("*/*"))
