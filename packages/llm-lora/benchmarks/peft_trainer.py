"""The capstone's training step beside peft and transformers' Trainer, on the same conversations.

    uv run --package llm-lora python packages/llm-lora/benchmarks/peft_trainer.py --rounds 8

Each program trains adapters of the same rank on the same layers of the same weights, with AdamW and clipping, and gets
the same conversations in each step. Each runs in a process of its own, so that its peak memory can be told; the
processes take turns step by step, so that all meet the same machine. A round counts the tokens of its conversations as
the tokenizer gives them, padding not included, over the seconds of the step.

    ours          frozen weights in bf16, conversations packed behind their common beginning, logits of answers only
    peft          Trainer with its defaults: float32, padded batches
    peft, bf16    Trainer with bf16=True

Both see the same loss in the first step, which is printed: adapters begin without an effect. CUDA is used where there
is some; `--base tiny` shows that everything runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from dlcommon.llm.llama import Llama
from dlcommon.llm.process_memory import peak_mib, reset_peak
from dlcommon.runtime import data
from dlcommon.runtime.files import write_json
from dlcommon.runtime.hardware import computes_in_bf16, describe, keep_freed_memory
from dlcommon.runtime.output import warn
from llm_lora.bases import PRETRAINED, Base, load_base
from llm_lora.batches import PackedBatches, TokenSequence
from llm_lora.config import ALL_LAYERS, Config
from llm_lora.model import AnswerModel, add_adapters

RATE = 2e-4
PROGRAMS = ("ours", "peft", "peft, bf16")


def conversations(base: Base, name: str | None, steps: int, batch: int) -> list[list[TokenSequence]]:
    """Encodes the conversations of each step."""
    loaded = data.resolve(name, ("instructions", "generated-instructions")).load().train
    order = torch.randperm(len(loaded), generator=torch.Generator().manual_seed(0)).tolist()
    encoded = [TokenSequence(*base.tokenizer.encode_chat(loaded[number].messages)) for number in order]
    return [[encoded[(step * batch + one) % len(encoded)] for one in range(batch)] for step in range(steps)]


def ours(base: Base, steps: Sequence[Sequence[TokenSequence]], device: torch.device, config: Config) -> None:
    """Trains as `llm_lora.train` does, one step for each line of the standard input."""
    keep_freed_memory()
    network = base.network.to(device)
    dtype = torch.bfloat16 if computes_in_bf16(device) else torch.float32
    network.to(dtype)
    add_adapters(network, config)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    network.train()
    begin_measuring(device)
    for step in steps:
        wait()
        begun = time.perf_counter()
        length = max(sum(len(one.tokens) for one in step), 1)
        packed = PackedBatches([(one,) for one in step], length, 1, 0)
        used = len(packed.prefix) + sum(packed.lengths)
        *parts, _ = packed.collate([range(len(step))])
        tokens, documents, is_answer = (part[:, :used].to(device) for part in parts)
        model = AnswerModel(network, len(packed.prefix))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = -model(tokens, documents, is_answer).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        report(loss.item(), time.perf_counter() - begun, device)


def in_transformers(network: Llama) -> Any:
    """Builds transformers' model with the same weights."""
    from dlcommon.testing.transformers_llama import to_transformers

    made = to_transformers(network)
    made.config.use_cache = False
    return made


def collate_padded(features: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pads token ids, labels and masks on the right, as a tutorial's data collator does."""
    longest = max(len(one["input_ids"]) for one in features)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([one[name] + [value] * (longest - len(one[name])) for one in features])
        for name, value in fill.items()
    }


def theirs(
    base: Base, steps: Sequence[Sequence[TokenSequence]], device: torch.device, config: Config, bf16: bool
) -> None:
    """Trains with peft and transformers' Trainer, one step for each line of the standard input."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model = get_peft_model(
        in_transformers(base.network),
        LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets), task_type="CAUSAL_LM"),
    )
    base.network.to("meta")  # frees the memory of the copy
    rows = [
        {
            "input_ids": one.tokens,
            "attention_mask": [1] * len(one.tokens),
            "labels": [token if wanted else -100 for token, wanted in zip(one.tokens, one.is_answer, strict=True)],
        }
        for step in steps
        for one in step
    ]

    class Turns(TrainerCallback):  # type: ignore[misc]
        """Waits for each step's turn, and reports its seconds and its loss."""

        begun = 0.0
        loss = torch.zeros(())

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            wait()
            self.begun = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            loss = self.loss.item()
            report(loss, time.perf_counter() - self.begun, device)

    turns = Turns()

    class KeepingTrainer(Trainer):  # type: ignore[misc]
        """Keeps the loss of the last step; trains as its parent does."""

        def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
            turns.loss = super().training_step(*arguments, **options)
            return turns.loss

    arguments = TrainingArguments(
        output_dir="unused",
        per_device_train_batch_size=len(steps[0]),
        max_steps=len(steps),
        learning_rate=RATE,
        bf16=bf16,
        use_cpu=device.type == "cpu",
        train_sampling_strategy="sequential",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = KeepingTrainer(
        model=model, args=arguments, train_dataset=rows, data_collator=collate_padded, callbacks=[turns]
    )
    begin_measuring(device)
    trainer.train()


def wait() -> None:
    """Waits for a line of the standard input."""
    if not sys.stdin.readline():
        raise SystemExit(0)


def begin_measuring(device: torch.device) -> None:
    """Forgets the peak of loading, where the system can, and says that the program is ready."""
    if not reset_peak(device):
        warn("the peak of memory includes that of loading on this system")
    print(json.dumps({"ready": True}), flush=True)


def report(loss: float, seconds: float, device: torch.device) -> None:
    print(json.dumps({"loss": loss, "seconds": seconds, "peak_mib": round(peak_mib(device))}), flush=True)


def child(program: str, options: argparse.Namespace) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(options.threads)
    base = base_of(options.base)
    steps = conversations(base, options.data, options.rounds + 1, options.batch)
    config = Config(rank=options.rank, alpha=2.0 * options.rank, targets=tuple(options.targets))
    if program == "ours":
        ours(base, steps, device, config)
    else:
        theirs(base, steps, device, config, bf16=program == "peft, bf16")


def base_of(name: str) -> Base:
    return load_base(None if name == "tiny" else data.require_asset(name))


def take_turns(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Starts the programs and lets them step one after the other; returns what each reported of each step."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    programs: dict[str, subprocess.Popen[str]] = {}
    reports: dict[str, list[dict[str, float]]] = {name: [] for name in options.programs}

    def read(name: str) -> dict[str, float]:
        output = programs[name].stdout
        assert output is not None
        for line in output:
            if line.startswith("{"):  # libraries may print as well
                found: dict[str, float] = json.loads(line)
                return found
        raise SystemExit(f"{name} has ended early, with exit code {programs[name].wait()}")

    try:
        for name in options.programs:
            programs[name] = subprocess.Popen(
                [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            read(name)  # is ready; one loads after the other
        for number in range(options.rounds + 1):
            for name, process in programs.items():
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
                reports[name].append(read(name))
            print(
                f"round {number}: " + ", ".join(f"{n} {r[-1]['seconds']:.2f} s" for n, r in reports.items()), flush=True
            )
    finally:
        for process in programs.values():
            if process.stdin is not None:
                process.stdin.close()
        for process in programs.values():
            process.wait(timeout=60)
    return reports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8, help="steps of each program that count; one more warms up")
    parser.add_argument("--batch", type=int, default=16, help="conversations of a step")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--targets", nargs="+", default=list(ALL_LAYERS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--base", default=PRETRAINED)
    parser.add_argument("--data", help="a data set of conversations; the instructions by default")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--child", choices=PROGRAMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options)
        return
    base = base_of(options.base)
    steps = conversations(base, options.data, options.rounds + 1, options.batch)
    del base
    tokens = [sum(len(one.tokens) for one in step) for step in steps]
    reports = take_turns(options)
    rows = {
        name: {
            "tokens_per_second": round(
                statistics.median(count / row["seconds"] for count, row in zip(tokens[1:], found[1:], strict=True)), 1
            ),
            "seconds_per_step": round(statistics.median(row["seconds"] for row in found[1:]), 4),
            "peak_mib": max(row["peak_mib"] for row in found),
            "first_loss": round(found[0]["loss"], 4),
        }
        for name, found in reports.items()
    }
    result: dict[str, Any] = {
        "rounds": options.rounds,
        "conversations_per_step": options.batch,
        "tokens_per_conversation": round(sum(tokens) / len(tokens) / options.batch, 1),
        "base": options.base,
        "rank": options.rank,
        "targets": options.targets,
        "programs": rows,
        "hardware": describe(),
    }
    for name, row in rows.items():
        if name != "ours" and "ours" in rows:
            result[f"ours over {name}"] = round(rows["ours"]["tokens_per_second"] / row["tokens_per_second"], 3)
    write_json(options.out, result)
    print(json.dumps({name: value for name, value in result.items() if name != "hardware"}, indent=2))


if __name__ == "__main__":
    main()
