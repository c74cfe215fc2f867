"""Tokens a second: the exported graph, transformers' generate, and what the memory allows.

    uv run --package llm-lora python packages/llm-lora/benchmarks/generation.py RUN --threads 2

All three programs have the same weights in float32 and answer the same question greedily, one text at a time and eight
at once: the exported graph with its adapter, transformers with the adapter merged, and our own network in torch. They
must write the same tokens. Rounds alternate and medians count. The bound: one step reads every weight once, whatever
the number of texts, and no program does so faster than this machine copies a block of their size. Into generation.json.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from dlcommon.llm.batched_generation import generate_greedily
from dlcommon.llm.chat_template import Message
from dlcommon.runtime.arrays import Predict
from dlcommon.runtime.files import write_json
from dlcommon.runtime.hardware import copy_bandwidth, describe
from dlcommon.runtime.locate_model import open_run
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.run_directory import EXPORTED
from dlcommon.testing.transformers_llama import to_transformers
from dlcommon.transformer.sampling import Sampling
from llm_lora.bases import Base
from llm_lora.capstone import CAPSTONE
from llm_lora.decoder import Decoder, Writing
from llm_lora.merging import merged_copy
from llm_lora.model import load_tuned

QUESTION = "Write a story about a cat that likes boxes."


def by_decoder(predict: Predict, metadata: dict[str, str], prompt: list[int], texts: int, count: int) -> list[int]:
    rank = int(metadata["rank"])
    decoder = Decoder(predict, metadata, scales={"own": np.ones(rank, np.float32)})
    writing = [
        Writing(np.array(prompt), Sampling(temperature=0), np.random.default_rng(0), "own") for _ in range(texts)
    ]
    while any(len(one.tokens) < count for one in writing):
        decoder.step([one for one in writing if len(one.tokens) < count])
    return writing[0].tokens


def programs(
    tuned: Base, onnx: OnnxModel, prompt: list[int], texts: int, count: int
) -> dict[str, Callable[[], list[int]]]:
    merged = merged_copy(tuned.network)
    theirs, rows = to_transformers(merged), torch.tensor([prompt] * texts)
    theirs.generation_config.eos_token_id = None  # nor do the others stop at the end of a turn

    def by_transformers() -> list[int]:
        with torch.inference_mode():
            mask = torch.ones_like(rows)
            written = theirs.generate(rows, attention_mask=mask, do_sample=False, max_new_tokens=count, pad_token_id=0)
        tokens: list[int] = written[0, len(prompt) :].tolist()
        return tokens

    return {
        "exported": lambda: by_decoder(onnx, dict(onnx.metadata), prompt, texts, count),
        "transformers": by_transformers,
        "torch": lambda: generate_greedily(merged, [prompt] * texts, max_new_tokens=count, stop=())[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tuned = load_tuned(open_run(CAPSTONE, options.run))
    onnx = OnnxModel(options.run / EXPORTED, options.threads)
    prompt, _ = tuned.tokenizer.encode_chat([Message("user", QUESTION)], add_generation_prompt=True)
    weights = 4 * sum(parameter.numel() for parameter in tuned.network.parameters())
    bandwidth = copy_bandwidth(weights, 3.0)
    result = {"threads": options.threads, "tokens": options.tokens, "rounds": options.rounds, "hardware": describe()}
    for texts in (1, 8):
        running = programs(tuned, onnx, prompt, texts, options.tokens)
        written = {name: write() for name, write in running.items()}  # also the warm-up
        if any(one != written["exported"] for one in written.values()):
            raise SystemExit(f"the programs write different tokens: {written}")
        seconds: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(options.rounds):
            for name, write in running.items():
                begun = time.perf_counter()
                write()
                seconds[name].append(time.perf_counter() - begun)
        rates = {name: texts * options.tokens / statistics.median(found) for name, found in seconds.items()}
        bound = texts * bandwidth / weights
        result[f"{texts} at once"] = {
            "tokens_per_second": {name: round(value, 1) for name, value in rates.items()},
            "exported_over_transformers": round(rates["exported"] / rates["transformers"], 2),
            "bound_tokens_per_second": round(bound, 1),
            "exported_over_bound": round(rates["exported"] / bound, 3),
        }
        print(f"{texts} at once: {result[f'{texts} at once']}", flush=True)
    write_json(Path(__file__).with_suffix(".json"), result)


if __name__ == "__main__":
    main()
