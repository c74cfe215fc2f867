"""The merged model as a GGUF file: the same logits, the same tokens, the same template."""

from pathlib import Path

import pytest
import torch
from dlcommon.llm.chat_template import Message
from dlcommon.llm.gguf_file import open_gguf
from dlcommon.llm.gguf_weights import load_gguf
from dlcommon.nlp.lora import LoRAConfig, add_lora, lora_layers
from dlcommon.runtime.errors import UsageError, UserError
from llm_lora.bases import tiny_base
from llm_lora.gguf_merged import byte_level, main, write_merged
from llm_lora.tokenizer import Tokenizer
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers


def test_the_file_holds_the_merged_model_its_tokenizer_and_its_template(tmp_path: Path) -> None:
    base = tiny_base()
    add_lora(base.network, LoRAConfig(4, 8.0, ("q_proj", "down_proj")))
    torch.manual_seed(0)
    for layer in lora_layers(base.network).values():
        torch.nn.init.normal_(layer.lora_b, std=0.1)
    write_merged(tmp_path / "model.gguf", base, "tiny, tuned", "F32")
    assert lora_layers(base.network), "the model itself is as before"

    reader = open_gguf(tmp_path / "model.gguf")
    network, tokenizer = load_gguf(reader), Tokenizer.from_gguf(reader)
    tokens = torch.tensor([base.tokenizer.encode("Hello, naïve 潮 2026")])
    with torch.inference_mode():
        torch.testing.assert_close(network(tokens), base.network(tokens), rtol=1e-4, atol=1e-5)
    chat = [Message("user", "Hello <|im_end|> there")]
    assert tokenizer.encode_chat(chat) == base.tokenizer.encode_chat(chat)


def hub_like() -> Tokenizer:
    """Makes a tokenizer as SmolLM2's repository on the hub holds it."""
    made = FastTokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["low lower lowest 2026 was low"] * 3, trainer)
    return Tokenizer(made.to_str(), tiny_base().tokenizer.template)


def test_a_tokenizer_of_the_hub_keeps_its_tokens() -> None:
    tokenizer = hub_like()
    again = byte_level(tokenizer)
    for text in ("lowest 2026, low!", "naïve 潮\n\n x", ""):
        assert again.encode(text) == tokenizer.encode(text)
    marked = "<|im_start|>low<|im_end|>"
    assert again.encode(marked, allow_special=True) == tokenizer.encode(marked, allow_special=True)
    assert again.encode(marked) == tokenizer.encode(marked)


def test_other_tokenizers_are_refused() -> None:
    made = FastTokenizer(models.BPE({"<|im_start|>": 0, "<|im_end|>": 1, "a": 2}, []))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    with pytest.raises(ValueError, match="cuts texts by Whitespace"):
        byte_level(Tokenizer(made.to_str(), tiny_base().tokenizer.template))


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a folder; name the file in it, such as .*model\.gguf"):
        main([str(tmp_path), str(tmp_path)])
    with pytest.raises(UserError, match="is not a run"):
        main([str(tmp_path), str(tmp_path / "model.gguf")])
