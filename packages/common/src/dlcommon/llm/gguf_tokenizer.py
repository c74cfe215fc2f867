"""Reads a byte-level tokenizer from a GGUF file, which holds it beside the weights."""

from pathlib import Path
from typing import Any

import gguf

from dlcommon.llm.byte_level_bpe import DIGIT_PATTERN, GPT2_PATTERN, LLAMA3_PATTERN, ByteLevelBPE
from dlcommon.llm.gguf_file import open_gguf

PATTERNS = {
    "default": (GPT2_PATTERN,),
    "gpt-2": (GPT2_PATTERN,),
    "smollm": (DIGIT_PATTERN, GPT2_PATTERN),  # each digit is a token, since numbers cut at random are hard to add
    "llama-bpe": (LLAMA3_PATTERN,),
}
"""How llama.cpp names the ways of cutting a text, and ours."""


def load_gguf_tokenizer(source: Path | gguf.GGUFReader) -> ByteLevelBPE:
    """Reads the tokens, merges and special tokens of a GGUF file.

    Args:
        source: its path, or the opened file.

    Raises:
        ValueError: it holds another kind of tokenizer; says which.
        OSError: it cannot be read.
    """
    reader = open_gguf(source)
    values: dict[str, Any] = {}
    for name in ("model", "pre", "tokens", "merges", "token_type"):
        field = reader.get_field(f"tokenizer.ggml.{name}")
        values[name] = None if field is None else field.contents()
    kind = values["pre"] or "default"
    if values["model"] != "gpt2" or kind not in PATTERNS:
        raise ValueError(f"the GGUF file holds a tokenizer {values['model']!r}, {kind!r}; byte-level ones are read")
    special = [
        token
        for token, number in zip(values["tokens"], values["token_type"], strict=True)
        if number == gguf.TokenType.CONTROL
    ]
    return ByteLevelBPE.from_merges(values["tokens"], values["merges"] or (), PATTERNS[kind], special)
