"""The models that are fine-tuned: the asset, any Llama-like model of the hub, or a tiny random one."""

from dataclasses import dataclass

import torch
from dlcommon.llm.gguf_file import open_gguf
from dlcommon.llm.gguf_weights import load_gguf
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.llama_weights import load_pretrained
from dlcommon.runtime.data import LocatedAsset
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.output import warn
from dlcommon.runtime.training_run import TrainingRun

from llm_lora.config import Config
from llm_lora.tokenizer import Tokenizer

PRETRAINED, TINY = "smollm2-135m-instruct", "tiny"


@dataclass(frozen=True)
class Base:
    """Holds a pretrained language model and its tokenizer."""

    network: Llama
    """In float32 and in evaluation mode."""
    tokenizer: Tokenizer


def tiny_base() -> Base:
    """Makes a random network of 0.1 million parameters that reads bytes, the same every time; it needs no file."""
    tokenizer = Tokenizer.of_bytes()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        dim=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        feedforward_dim=128,
        context_length=1024,
        tie_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Base(Llama(config).eval(), tokenizer)


def load_base(located: LocatedAsset | None) -> Base:
    """Loads the network and the tokenizer of an asset; without one makes the tiny one.

    Raises:
        UserError: the files do not hold a Llama-like model that was tuned on conversations in ChatML; says why.
    """
    if located is None:
        return tiny_base()
    try:
        if located.form.name == "gguf":
            reader = open_gguf(located.files()[0])
            return Base(load_gguf(reader), Tokenizer.from_gguf(reader))
        return Base(load_pretrained(located.path), Tokenizer.from_folder(located.path))
    except (ValueError, OSError) as error:
        raise UserError(f"{located.describe()} cannot be fine-tuned here: {error}") from error


def choose_base(run: TrainingRun[Config]) -> LocatedAsset | None:
    """Returns the asset that a run fine-tunes, or None for the tiny network, and says which.

    Raises:
        UsageError: there is no such base.
        UserError: it is neither at hand nor can it be downloaded.
    """
    chosen = run.config.base
    if run.resumed and chosen == "auto":  # a resumed run goes on with what it began with
        chosen = next(iter(run.assets), TINY)
    if chosen == TINY:
        if run.is_main:
            run.output.say("base: a tiny random network, which has learned nothing; it is there to try the commands")
        return None
    try:
        located = run.asset(PRETRAINED if chosen == "auto" else chosen)
    except UsageError as error:
        raise UsageError(f"--base {chosen}: {error}; or name a model of the hub as OWNER/NAME") from error
    except DataUnavailableError as error:
        if chosen != "auto":
            raise
        if run.is_main:
            warn(f"{error}. Training a tiny random network instead, which only shows that everything runs")
        return None
    if run.is_main:
        run.output.say(f"base: {located.describe()}")
    return located
