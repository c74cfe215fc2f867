"""Writes a run's model, its adapter merged, as one GGUF file for llama.cpp and the programs around it.

uv run --package llm-lora python -m llm_lora.gguf_merged RUN model.gguf --type Q8_0
"""

import argparse
import json
from pathlib import Path

from dlcommon.llm.byte_level_bpe import DIGIT_PATTERN, GPT2_PATTERN, ByteLevelBPE
from dlcommon.llm.chat_template import TURN_END, TURN_START
from dlcommon.llm.gguf_export import CHATML, FileType, chatml_with_system, write_gguf
from dlcommon.nlp.lora import lora_layers
from dlcommon.runtime.cli import enter
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.files import explained_disk_errors
from dlcommon.runtime.locate_model import open_run

from llm_lora.bases import Base
from llm_lora.capstone import CAPSTONE
from llm_lora.merging import merged_copy
from llm_lora.model import load_tuned
from llm_lora.tokenizer import Tokenizer


def write_merged(path: Path, tuned: Base, name: str, file_type: FileType = "F16") -> None:
    """Writes the file; the model's own adapters stay unmerged.

    Raises:
        ValueError: the model or its tokenizer cannot be written; says why.
        OSError: the file cannot be written.
    """
    network = merged_copy(tuned.network) if lora_layers(tuned.network) else tuned.network
    system = tuned.tokenizer.template.default_system
    write_gguf(
        path,
        network,
        byte_level(tuned.tokenizer),
        name=name,
        file_type=file_type,
        begin=TURN_START,
        end=TURN_END,
        chat_template=CHATML if system is None else chatml_with_system(system),
    )


def byte_level(tokenizer: Tokenizer) -> ByteLevelBPE:
    """Reads vocabulary, merges and cuts of a tokenizer that the library `tokenizers` stores.

    Raises:
        ValueError: it is of another kind.
    """
    content = json.loads(json.loads(tokenizer.to_json())["tokenizer"])
    vocabulary = {**content["model"].get("vocab", {})}
    special = []
    for token in content["added_tokens"]:
        vocabulary[token["content"]] = token["id"]
        if token["special"]:
            special.append(token["content"])
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    if content["model"]["type"] != "BPE" or [vocabulary[piece] for piece in pieces] != list(range(len(pieces))):
        raise ValueError(
            "the tokenizer is no byte-pair encoding with ids from 0 on; convert it with llama.cpp's script"
        )
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
    return ByteLevelBPE.from_merges(pieces, merges, _patterns(content["pre_tokenizer"]), special)


def _patterns(pre_tokenizer: dict[str, object] | None) -> tuple[str, ...]:
    """Returns the expressions by which a text is cut, as of `dlcommon.llm.byte_level_bpe.pre_tokenize`."""
    parts = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer] if pre_tokenizer else [])
    assert isinstance(parts, list)
    patterns = []
    for part in parts:
        if part["type"] == "Split" and part["behavior"] == "Isolated" and "Regex" in part["pattern"]:
            patterns.append(part["pattern"]["Regex"])
        elif part["type"] == "Digits" and part["individual_digits"]:
            patterns.append(DIGIT_PATTERN)
        elif part["type"] == "ByteLevel" and not part["add_prefix_space"]:
            patterns += [GPT2_PATTERN] if part["use_regex"] else []
        else:
            raise ValueError(f"the tokenizer cuts texts by {part['type']}; convert it with llama.cpp's script")
    return tuple(patterns)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m llm_lora.gguf_merged", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("file", type=Path, help="the file to write, such as model.gguf")
    parser.add_argument("--type", choices=("F32", "F16", "Q8_0"), default="F16", help="how matrices are stored")
    options = parser.parse_args(argv)
    if options.file.is_dir():
        raise UsageError(f"{options.file} is a folder; name the file in it, such as {options.file / 'model.gguf'}")
    saved = open_run(CAPSTONE, options.run)
    with explained_disk_errors(options.file):
        try:
            options.file.parent.mkdir(parents=True, exist_ok=True)
            write_merged(options.file, load_tuned(saved), f"{saved.summary['training']['network']}", options.type)
        except ValueError as error:
            raise UserError(f"{options.run} cannot be written as GGUF: {error}") from error
    print(f"{options.file}: {options.file.stat().st_size / 1e6:,.1f} MB")
    return 0


if __name__ == "__main__":
    enter(main)
