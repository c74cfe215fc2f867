"""Adapters are stored in peft's format: peft loads ours, and ours loads peft's."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from dlcommon.nlp.dora import DoRALinear
from dlcommon.nlp.lora import LoRAConfig, LoRALinear, add_lora, lora_layers, lora_state_dict
from dlcommon.nlp.lora_checkpoint import CONFIG, WEIGHTS, load_adapter, save_adapter
from dlcommon.nlp.pissa import PiSSALinear
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

# peft still reads the attribute that transformers is about to rename.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
IDS = torch.tensor([[1, 5, 2, 7], [3, 3, 9, 0]])


def llama() -> Any:
    """Builds the same tiny causal language model each time; its head is its embedding, as SmolLM2's."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=12, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(shape).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


def move(model: nn.Module) -> None:
    """Changes all that is trained, so that the adapters are not at their start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize(
    ("kind", "targets", "stored_as"),
    [
        (LoRALinear, ("q_proj", "v_proj"), ["q_proj", "v_proj"]),
        (DoRALinear, ("*_proj",), [f"{name}_proj" for name in ("down", "gate", "k", "o", "q", "up", "v")]),
        (PiSSALinear, ("layers.1.*",), "model\\.layers\\.1\\.self_attn\\.q_proj|"),
    ],
)
@pytest.mark.parametrize("rank_stabilized", [False, True])
def test_peft_loads_ours(
    kind: type[LoRALinear], targets: tuple[str, ...], stored_as: Any, rank_stabilized: bool, tmp_path: Path
) -> None:
    ours = llama()
    add_lora(ours, LoRAConfig(3, 6, targets, rank_stabilized, dropout=0.1), kind)
    move(ours)
    ours.eval()
    save_adapter(ours, tmp_path, base_model="tiny", task_type="CAUSAL_LM")
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, WEIGHTS]
    theirs = peft.PeftModel.from_pretrained(llama(), tmp_path)
    assert isinstance(theirs, peft.PeftModelForCausalLM)
    assert not torch.allclose(logits(theirs), logits(llama()), atol=0.1)
    torch.testing.assert_close(logits(theirs), logits(ours))
    again = llama()
    load_adapter(again, tmp_path)
    torch.testing.assert_close(logits(again.eval()), logits(ours))
    target_modules = json.loads((tmp_path / CONFIG).read_text())["target_modules"]
    if isinstance(stored_as, str):
        assert target_modules.startswith(stored_as)
    else:
        assert target_modules == stored_as


@pytest.mark.parametrize("use_dora", [False, True])
def test_we_load_pefts(use_dora: bool, tmp_path: Path) -> None:
    config = peft.LoraConfig(
        r=2, lora_alpha=5, target_modules="all-linear", use_rslora=True, use_dora=use_dora, lora_dropout=0.2,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    theirs = peft.get_peft_model(llama(), config)
    move(theirs)
    theirs.eval()
    theirs.save_pretrained(tmp_path)
    ours = llama()
    found = load_adapter(ours, tmp_path)
    assert (found.rank, found.alpha, found.rank_stabilized, found.dropout) == (2, 5.0, True, 0.2)
    assert len(found.targets) == 14
    assert not torch.allclose(logits(ours.eval()), logits(llama()), atol=0.1)
    torch.testing.assert_close(logits(ours), logits(theirs))
    trained = [name for name, parameter in ours.named_parameters() if parameter.requires_grad]
    assert set(trained) == set(lora_state_dict(ours))
    # Stored by us, it has the matrices and their names that peft stored.
    save_adapter(ours, tmp_path / "again")
    first, second = (load_file(folder / WEIGHTS) for folder in (tmp_path, tmp_path / "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Returns a folder with a small adapter."""
    model = llama()
    add_lora(model, LoRAConfig(2, 4, ("q_proj",)))
    save_adapter(model, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "LOHA"}, "does not describe LoRA"),
        ({"bias": "all"}, "bias is 'all', which is not implemented here; load it with peft"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "has changed the pretrained weights as well"),
        ({"r": 0}, "describes no adapter: rank must be at least 1"),
        ({"r": 3}, r"have the shapes .*\[2, 16\].* are needed"),
        ({"use_dora": True}, "'magnitude'.* are needed"),
    ],
)
def test_what_is_not_implemented_or_does_not_fit_is_refused(stored: Path, change: dict[str, Any], message: str) -> None:
    content = json.loads((stored / CONFIG).read_text())
    (stored / CONFIG).write_text(json.dumps({**content, **change}))
    model = llama()
    with pytest.raises(ValueError, match=message):
        load_adapter(model, stored)
    assert not lora_layers(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_damaged_or_foreign_files_are_refused(stored: Path) -> None:
    matrices = load_file(stored / WEIGHTS)
    with pytest.raises(ValueError, match=r"no linear layer model\.layers\.0\.self_attn\.q_proj"):
        load_adapter(nn.Sequential(nn.Linear(2, 2)), stored)
    save_file({**matrices, "base_model.model.x.lora_embedding_A": torch.zeros(2)}, stored / WEIGHTS)
    with pytest.raises(ValueError, match="lora_embedding_A is no matrix of an adapter of a linear layer"):
        load_adapter(llama(), stored)
    (stored / WEIGHTS).write_bytes(b"half")
    with pytest.raises(ValueError, match="is damaged"):
        load_adapter(llama(), stored)
    (stored / CONFIG).write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        load_adapter(llama(), stored)


def test_adapters_that_cannot_be_stored_together_are_refused(tmp_path: Path) -> None:
    model = llama()
    with pytest.raises(ValueError, match="has no adapters"):
        save_adapter(model, tmp_path)
    for number, layer in enumerate(model.model.layers):
        add_lora(layer, LoRAConfig(1 + number, 2, ("q_proj",)))
    with pytest.raises(ValueError, match="one rank, scaling and kind"):
        save_adapter(model, tmp_path)
    with pytest.raises(ValueError, match="adapters already"):
        load_adapter(model, tmp_path)
    assert list(tmp_path.iterdir()) == []
