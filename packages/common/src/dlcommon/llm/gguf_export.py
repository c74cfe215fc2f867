"""Writes a Llama with its tokenizer as one GGUF file, the format of llama.cpp.

What `load_gguf` and `load_gguf_tokenizer` read back; matrices in half precision, or in eight bits (Q8_0: blocks of 32
weights that share a scale). Norms stay in float32, as llama.cpp's own converter leaves them.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
import torch

from dlcommon.llm.byte_level_bpe import ByteLevelBPE
from dlcommon.llm.gguf_file import MODULES, is_rotated
from dlcommon.llm.gguf_tokenizer import PATTERNS
from dlcommon.llm.llama import Llama
from dlcommon.nlp.lora import lora_layers

FileType = Literal["F32", "F16", "Q8_0"]
CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML as the Jinja template that readers of GGUF files render, without a default system message."""


def chatml_with_system(system: str) -> str:
    """Returns ChatML's template with a default system message, for conversations that begin with none."""
    quoted = json.dumps(f"<|im_start|>system\n{system}<|im_end|>\n", ensure_ascii=False)  # JSON's strings are Jinja's
    return f"{{% if messages[0]['role'] != 'system' %}}{{{{ {quoted} }}}}{{% endif %}}{CHATML}"


_OURS = {ours: theirs for theirs, ours in MODULES.items()}


def write_gguf(
    path: Path,
    model: Llama,
    tokenizer: ByteLevelBPE,
    *,
    name: str,
    file_type: FileType = "F16",
    begin: str | None = None,
    end: str | None = None,
    chat_template: str | None = None,
) -> None:
    """Writes the file under a temporary name that becomes the final one when it is whole.

    Args:
        path: of the file, `….gguf`.
        model: with adapters merged and unloaded, if it had some.
        tokenizer: of its vocabulary; unused ids at the end are filled up.
        name: of the model, shown by readers.
        file_type: how matrices are stored.
        begin: special token that begins a text, such as `<|im_start|>`, if there is one.
        end: special token that ends an answer, such as `<|im_end|>`.
        chat_template: Jinja source, such as `CHATML`.

    Raises:
        ValueError: the model has something that this format is not written with here, or the widths do not suit the
            type; says what to do.
        OSError: the file cannot be written.
    """
    _require_exportable(model, tokenizer, file_type)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        writer = gguf.GGUFWriter(temporary, "llama")
        writer.add_name(name)
        writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[file_type]])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_sizes(writer, model)
        _add_tokenizer(writer, tokenizer, model.config.vocab_size, begin, end, chat_template)
        _add_tensors(writer, model, file_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


_FILE_TYPES = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0"}


def _require_exportable(model: Llama, tokenizer: ByteLevelBPE, file_type: FileType) -> None:
    config = model.config
    if lora_layers(model):
        raise ValueError("the model has adapters; call merge_lora(model) and unload_lora(model) first")
    for setting in ("rope_scaling", "qkv_bias", "qk_norm", "num_experts"):
        if getattr(config, setting):
            raise ValueError(f"a Llama with {setting} is not written as GGUF here; convert it with llama.cpp's script")
    if len(tokenizer) > config.vocab_size:
        raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, but the model only {config.vocab_size}")
    if file_type == "Q8_0":
        block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q8_0]
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() == 2 and parameter.size(1) % block:
                raise ValueError(
                    f"Q8_0 needs rows of a multiple of {block} weights, and those of {parameter_name} have "
                    f"{parameter.size(1)}; write F16"
                )


def _add_sizes(writer: gguf.GGUFWriter, model: Llama) -> None:
    config = model.config
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.dim)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.feedforward_dim)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)


def _add_tokenizer(
    writer: gguf.GGUFWriter,
    tokenizer: ByteLevelBPE,
    vocab_size: int,
    begin: str | None,
    end: str | None,
    chat_template: str | None,
) -> None:
    kinds = {patterns: kind for kind, patterns in PATTERNS.items() if kind != "default"}
    kind = kinds.get(tokenizer.patterns) if tokenizer.encoding.merges else "gpt-2"  # bytes need no cuts
    if kind is None:
        raise ValueError(f"llama.cpp has no name for a tokenizer that cuts texts by {tokenizer.patterns}")
    pieces: Sequence[str] = tokenizer.encoding.pieces
    unused = [f"[PAD{number}]" for number in range(len(pieces), vocab_size)]  # as llama.cpp's converter names them
    special = {*tokenizer.special}
    types = [gguf.TokenType.CONTROL if piece in special else gguf.TokenType.NORMAL for piece in pieces]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(kind)
    writer.add_token_list([*pieces, *unused])
    writer.add_token_types([*types, *[gguf.TokenType.UNUSED] * len(unused)])
    writer.add_token_merges([f"{pieces[left]} {pieces[right]}" for left, right in tokenizer.encoding.merges])
    writer.add_add_bos_token(False)
    if begin is not None:
        writer.add_bos_token_id(tokenizer.encoding.ids[begin])
    if end is not None:
        writer.add_eos_token_id(tokenizer.encoding.ids[end])
        writer.add_pad_token_id(tokenizer.encoding.ids[end])
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def _add_tensors(writer: gguf.GGUFWriter, model: Llama, file_type: FileType) -> None:
    kind = gguf.GGMLQuantizationType[file_type]
    for name, parameter in model.state_dict().items():
        module, _, suffix = name.rpartition(".")
        prefix = ""
        if module.startswith("model.layers."):
            number, _, module = module.removeprefix("model.layers.").partition(".")
            prefix = f"blk.{number}."
        theirs = _OURS[module]
        weight = parameter.detach().float().cpu()
        if is_rotated(name):
            weight = _pair_neighbors(weight, model.config.head_dim)
        array: np.ndarray = weight.contiguous().numpy()
        if weight.dim() == 1 or file_type == "F32":
            writer.add_tensor(f"{prefix}{theirs}.{suffix}", array)
        else:
            writer.add_tensor(f"{prefix}{theirs}.{suffix}", gguf.quants.quantize(array, kind), raw_dtype=kind)


def _pair_neighbors(weight: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Reorders each head's rows, [heads · head_dim, dim], from the pairs (i, i + half) to llama.cpp's (2i, 2i + 1)."""
    heads: torch.Tensor = weight.unflatten(0, (-1, 2, head_dim // 2))  # [heads, 2, pairs, dim]
    return heads.transpose(1, 2).flatten(0, 2)
