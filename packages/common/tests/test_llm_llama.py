"""Llama against transformers: values, gradients, cache, files, counts."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from dlcommon.llm.gguf_weights import load_gguf
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.llama_weights import llama_from_weights, load_pretrained, load_transformers_weights
from dlcommon.llm.model_size import count_parameters, forward_flops, kv_cache_bytes
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.runtime.flops import flops_of
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.testing.skips import asset_or_skip
from dlcommon.transformer.kv_cache import KVCache
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    MixtralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers import (
    LlamaConfig as TheirConfig,
)

SIZES: dict[str, Any] = {
    "vocab_size": 37,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
ROPE_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
KINDS: dict[str, PreTrainedConfig] = {
    "multi-head": TheirConfig(**{**SIZES, "num_key_value_heads": 4}),
    "grouped": TheirConfig(**SIZES),
    "multi-query, tied": TheirConfig(**{**SIZES, "num_key_value_heads": 1}, tie_word_embeddings=True),
    "wide heads": TheirConfig(**SIZES, head_dim=10),
    "rope_theta": TheirConfig(**SIZES, rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
    "linear": TheirConfig(**SIZES, rope_parameters={"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}),
    "llama3": TheirConfig(**SIZES, rope_parameters=ROPE_LLAMA3),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "mixtral": MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2),
}


def pair(kind: str) -> tuple[Llama, torch.nn.Module]:
    """Ours and theirs with the same weights, all of them random, biases and norms too."""
    theirs = AutoModelForCausalLM.from_config(KINDS[kind]).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    config = LlamaConfig.from_transformers(KINDS[kind].to_dict())
    return llama_from_weights(config, theirs.state_dict()), theirs


def tokens(batch: int, length: int, vocab_size: int = SIZES["vocab_size"]) -> torch.Tensor:
    return torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_those_of_transformers(kind: str) -> None:
    ours, theirs = pair(kind)
    ids = tokens(2, 48)
    found, expected = ours(ids), theirs(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for logits in (found, expected):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert {name for name, _ in ours.named_parameters()} == set(gradients)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["grouped", "llama3", "qwen3"])
@pytest.mark.parametrize("pieces", [[9], [1] * 9, [4, 1, 4]])
def test_decoding_with_a_cache_is_decoding_without(kind: str, pieces: list[int]) -> None:
    model, _ = pair(kind)
    ids, cache, found, start = tokens(2, 9), model.initial_state(2), [], 0
    for length in pieces:
        logits, cache = model.step(ids[:, start : start + length], cache)
        found.append(logits)
        start += length
    torch.testing.assert_close(torch.cat(found, dim=1), model(ids), rtol=1e-4, atol=1e-4)
    assert cache.keys.shape == (2, 2, 2, 9, model.config.head_dim)


def test_packed_documents_do_not_see_each_other() -> None:
    model, _ = pair("grouped")
    ids, lengths = tokens(1, 9), (4, 5)
    documents = torch.repeat_interleave(torch.arange(2), torch.tensor(lengths))  # [9]
    mask = (documents[:, None] == documents) & torch.ones(9, 9, dtype=torch.bool).tril()
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    found = model(ids, positions, mask)
    expected = torch.cat([model(ids[:, :4]), model(ids[:, 4:])], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_exported_step_is_the_models_own_at_any_length(tmp_path: Path) -> None:
    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = pair("grouped")[0]

        def forward(self, ids: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits, (keys, values) = self.model.step(ids, KVCache(keys, values))
            return logits, keys, values

    step, state = Step().eval(), np.zeros((2, 2, 2, 5, 6), np.float32)
    example: dict[str, np.ndarray] = {"ids": np.zeros((2, 3), np.int64), "keys": state, "values": state}
    dynamic = {"ids": {1: "new"}, "keys": {3: "past"}, "values": {3: "past"}}
    write_onnx(
        ExportGraph(step, example, ("logits", "next_keys", "next_values"), {}, dynamic=dynamic), {}, tmp_path / "m"
    )
    onnx, ids = OnnxModel(tmp_path / "m"), tokens(3, 9)
    keys = values = np.zeros((3, 2, 2, 0, 6), np.float32)
    found, start = [], 0
    for length in (4, 1, 1, 3):
        outputs = onnx({"ids": ids[:, start : start + length].numpy(), "keys": keys, "values": values})
        keys, values = outputs["next_keys"], outputs["next_values"]
        found.append(torch.from_numpy(outputs["logits"]))
        start += length
    torch.testing.assert_close(torch.cat(found, dim=1), step.model(ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shards", [False, True])
def test_a_folder_of_transformers_is_read(tmp_path: Path, shards: bool) -> None:
    theirs = AutoModelForCausalLM.from_config(KINDS["multi-query, tied"]).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="4KB" if shards else "1GB")
    assert (tmp_path / "model.safetensors.index.json").is_file() == shards
    ids = tokens(1, 7)
    torch.testing.assert_close(load_pretrained(tmp_path)(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_old_and_new_files_state_the_rotary_embedding_differently() -> None:
    new = LlamaConfig.from_transformers(KINDS["llama3"].to_dict())
    old = {**SIZES, "model_type": "llama", "rope_theta": 10_000.0, "rope_scaling": {**ROPE_LLAMA3}}
    assert LlamaConfig.from_transformers(old) == new
    assert LlamaConfig.from_transformers({**old, "rope_scaling": None}).rope_scaling is None
    without_heads = {name: value for name, value in old.items() if name != "num_key_value_heads"}
    assert LlamaConfig.from_transformers(without_heads).num_kv_heads == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"model_type": "mistral", "sliding_window": 8}, "sliding_window"),
        ({"hidden_size": None}, "hidden_size must be an integer, not None"),
        ({"num_key_value_heads": 3}, "multiple of num_kv_heads 3"),
        ({"head_dim": 5}, "head_dim must be even"),
        ({"num_hidden_layers": 0}, "num_layers must be at least 1"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type is 'yarn'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}, "factor > 0"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ],
)
def test_other_architectures_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**SIZES, "model_type": "llama", **changes}))
    with pytest.raises(ValueError, match=message):
        LlamaConfig.from_json(path)


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="no JSON object"):
        LlamaConfig.from_json(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        LlamaConfig.from_json(path)
    model, _ = pair("grouped")
    weights = {name: tensor for name, tensor in model.state_dict().items() if "norm.weight" not in name}
    with pytest.raises(ValueError, match=r"(?s)not the weights of a Llama.*model\.norm\.weight"):
        load_transformers_weights(model, weights)
    path.write_text(json.dumps(KINDS["grouped"].to_dict()))
    save_file({"other": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="not the weights"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_counted_as_they_are(kind: str) -> None:
    config = LlamaConfig.from_transformers(KINDS[kind].to_dict())
    assert count_parameters(config).total == sum(parameter.numel() for parameter in Llama(config).parameters())


@pytest.mark.parametrize("kind", ["grouped", "multi-query, tied", "qwen2", "qwen3", "mixtral"])
def test_operations_are_counted_as_torch_counts_them(kind: str) -> None:
    model, _ = pair(kind)
    ids, cache = tokens(1, 9), model.initial_state(1)
    with torch.no_grad():
        _, cache = model.step(ids[:, :8], cache)
        assert flops_of(lambda: model.step(ids[:, 8:], cache)) == forward_flops(model.config, 9)
    stored = sum(tensor.numel() * tensor.element_size() for tensor in cache)
    assert kv_cache_bytes(model.config, 8, bytes_per_number=4) == stored


def test_a_mixtures_idle_parameters_are_those_that_get_no_gradient() -> None:
    model, _ = pair("mixtral")
    model(tokens(1, 1)).sum().backward()
    used = 0
    for name, parameter in model.named_parameters():
        if ".experts." in name:
            assert parameter.grad is not None
            used += sum(expert.numel() for expert, grad in zip(parameter, parameter.grad, strict=True) if grad.any())
        else:
            used += parameter.numel()
    assert count_parameters(model.config).active == used


# --- GGUF -------------------------------------------------------------------------------------------------------------


def write_gguf(path: Path, model: Llama, **changes: Any) -> None:
    """Writes a model as llama.cpp's converter does, with the rows of queries and keys in its order."""
    config = model.config
    writer = gguf.GGUFWriter(path, changes.get("architecture", "llama"))
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.dim)
    writer.add_feed_forward_length(config.feedforward_dim)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    if "scaling" in changes:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_token_list([f"t{number}" for number in range(config.vocab_size)])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_layers)
    for name, tensor in model.state_dict().items():
        module, _, kind = name.rpartition(".")
        if module.endswith(("q_proj", "k_proj")):
            halves = tensor.unflatten(0, (-1, 2, config.head_dim // 2))
            tensor = halves.transpose(1, 2).flatten(0, 2)
        writer.add_tensor(f"{names.get_name(module)}.{kind}", tensor.contiguous().numpy())
    if "extra" in changes:
        writer.add_tensor(changes["extra"], np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", ["grouped", "multi-query, tied"])
def test_a_gguf_file_holds_the_same_model(tmp_path: Path, kind: str) -> None:
    model, _ = pair(kind)
    write_gguf(tmp_path / "model.gguf", model)
    again = load_gguf(tmp_path / "model.gguf")
    # The file holds norm_eps as float32.
    assert again.config.norm_eps == pytest.approx(model.config.norm_eps)
    assert again.config.head_dim == model.config.head_dim
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_other_gguf_files_are_refused(tmp_path: Path) -> None:
    model, path = pair("grouped")[0], tmp_path / "model.gguf"
    write_gguf(path, model, architecture="gpt2")
    with pytest.raises(ValueError, match="'gpt2', not llama"):
        load_gguf(path)
    write_gguf(path, model, scaling=True)
    with pytest.raises(ValueError, match="RoPE scaling"):
        load_gguf(path)
    write_gguf(path, model, extra="blk.0.attn_sinks.weight")
    with pytest.raises(ValueError, match=r"attn_sinks\.weight of the GGUF file has no place"):
        load_gguf(path)


def test_smollm2_gives_the_logits_of_transformers() -> None:
    """Against transformers' own reading of the GGUF file, which takes a minute."""
    located = asset_or_skip("smollm2-135m-instruct", "gguf")
    (file,) = located.path.glob("*.gguf")
    ours = load_gguf(file)
    tokenizer = AutoTokenizer.from_pretrained(located.path, gguf_file=file.name)
    theirs = AutoModelForCausalLM.from_pretrained(located.path, gguf_file=file.name, dtype=torch.float32).eval()
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        found, expected = ours(ids), theirs(ids).logits
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
        _, cache = ours.step(ids[:, :-1], ours.initial_state(1))
        torch.testing.assert_close(ours.step(ids[:, -1:], cache)[0], found[:, -1:], rtol=1e-3, atol=1e-3)
    assert tokenizer.decode(found[0, -1].argmax()).strip() == "Paris"
    assert count_parameters(ours.config).total == 134_515_008


# --- published models -------------------------------------------------------------------------------------------------


PUBLISHED = {
    "SmolLM2-135M": (
        LlamaConfig(49_152, 576, 30, 9, 3, 64, 1536, rope_theta=100_000.0, tie_embeddings=True),
        TheirConfig(
            vocab_size=49_152,
            hidden_size=576,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            intermediate_size=1536,
            tie_word_embeddings=True,
        ),
        134_515_008,
    ),
    "Llama 3 8B": (
        LlamaConfig(128_256, 4096, 32, 32, 8, 128, 14_336, rope_theta=500_000.0),
        TheirConfig(
            vocab_size=128_256,
            hidden_size=4096,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            intermediate_size=14_336,
        ),
        8_030_261_248,
    ),
    "Qwen2.5-7B": (
        LlamaConfig(152_064, 3584, 28, 28, 4, 128, 18_944, rope_theta=1e6, qkv_bias=True),
        Qwen2Config(
            vocab_size=152_064,
            hidden_size=3584,
            num_hidden_layers=28,
            num_attention_heads=28,
            num_key_value_heads=4,
            intermediate_size=18_944,
        ),
        7_615_616_512,
    ),
    "Mixtral 8x7B": (
        LlamaConfig(32_000, 4096, 32, 32, 8, 128, 14_336, rope_theta=1e6, num_experts=8, experts_per_token=2),
        MixtralConfig(),
        46_702_792_704,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_are_counted_as_published_and_as_transformers_builds_them(name: str) -> None:
    ours, theirs, published = PUBLISHED[name]
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(theirs)
    assert count_parameters(ours).total == sum(parameter.numel() for parameter in built.parameters()) == published


def test_configurations_of_both_libraries_agree_on_defaults() -> None:
    assert isinstance(AutoConfig.for_model("llama"), TheirConfig)
    config = LlamaConfig.from_transformers(TheirConfig().to_dict())
    assert (config.num_kv_heads, config.head_dim, config.rope_theta) == (32, 128, 10_000.0)
