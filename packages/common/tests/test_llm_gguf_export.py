"""A GGUF file that is written holds the model and the tokenizer, for our reader and for transformers'."""

import dataclasses
from pathlib import Path

import gguf
import pytest
import torch
from dlcommon.llm.byte_level_bpe import DIGIT_PATTERN, GPT2_PATTERN, ByteLevelBPE
from dlcommon.llm.chat_template import ChatTemplate, Message
from dlcommon.llm.gguf_export import CHATML, FileType, chatml_with_system, write_gguf
from dlcommon.llm.gguf_tokenizer import load_gguf_tokenizer
from dlcommon.llm.gguf_weights import load_gguf
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.nlp.lora import LoRAConfig, add_lora
from jinja2 import Environment
from transformers import AutoModelForCausalLM

SPECIAL = ("<|im_start|>", "<|im_end|>")
TEXT = "Low lower lowest, 2026 was the year of the lowest tide; naïve 潮."


@pytest.fixture(scope="module")
def tokenizer() -> ByteLevelBPE:
    return ByteLevelBPE.train([TEXT] * 3, 290, (DIGIT_PATTERN, GPT2_PATTERN), SPECIAL)


def make_model(tie_embeddings: bool = True, vocab_size: int = 300, dim: int = 32) -> Llama:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        dim=dim,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        feedforward_dim=64,
        context_length=50,
        rope_theta=50_000.0,
        tie_embeddings=tie_embeddings,
    )
    model = Llama(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def rounded(model: Llama, file_type: FileType) -> Llama:
    """Rounds the matrices as the file type does, independently of the writer."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2 and file_type == "F16":
                parameter.copy_(parameter.half())
            elif parameter.dim() == 2 and file_type == "Q8_0":
                blocks = parameter.view(-1, 32)
                scale = blocks.abs().amax(dim=1, keepdim=True) / 127
                parameter.copy_(((blocks / scale).round() * scale.half()).view_as(parameter))
    return model


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("file_type", ["F32", "F16", "Q8_0"])
def test_the_file_holds_the_same_model_for_every_reader(
    tmp_path: Path, tokenizer: ByteLevelBPE, file_type: FileType, tie_embeddings: bool
) -> None:
    model = make_model(tie_embeddings)
    path = tmp_path / "model.gguf"
    write_gguf(path, model, tokenizer, name="tiny", file_type=file_type, end=SPECIAL[1])
    assert [file.name for file in tmp_path.iterdir()] == ["model.gguf"]
    tokens = torch.randint(290, (2, 12))
    expected = rounded(model, file_type)(tokens)
    again = load_gguf(path)
    assert dataclasses.replace(again.config, norm_eps=1e-5) == model.config  # stored in float32
    torch.testing.assert_close(again(tokens), expected)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    torch.testing.assert_close(theirs(tokens).logits, expected, rtol=1e-4, atol=1e-4)


def test_the_file_holds_tokenizer_and_chat_template(tmp_path: Path, tokenizer: ByteLevelBPE) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, make_model(), tokenizer, name="tiny", begin=SPECIAL[0], end=SPECIAL[1], chat_template=CHATML)
    reader = gguf.GGUFReader(path)
    again = load_gguf_tokenizer(reader)
    text = f"{SPECIAL[0]}{TEXT}{SPECIAL[1]}"
    assert again.encode(text, allow_special=True) == tokenizer.encode(text, allow_special=True)
    assert again.decode(again.encode(TEXT)) == TEXT
    values = {name: field.contents() for name, field in reader.fields.items()}
    assert values["tokenizer.ggml.eos_token_id"] == tokenizer.encoding.ids["<|im_end|>"]
    assert values["tokenizer.ggml.bos_token_id"] == tokenizer.encoding.ids["<|im_start|>"]
    assert values["tokenizer.ggml.pre"] == "smollm"
    messages = [Message("system", "Be brief."), Message("user", "Hi\nthere"), Message("assistant", "Hello")]
    rows = [{"role": one.role, "content": one.content} for one in messages]
    for prompt in (False, True):
        rendered = (
            Environment()
            .from_string(values["tokenizer.chat_template"])
            .render(messages=rows, add_generation_prompt=prompt)
        )
        assert rendered == ChatTemplate().render(messages, add_generation_prompt=prompt)


def test_the_template_may_have_a_default_system_message() -> None:
    system = 'You are "Tiny",\nnaïve {{ and }} \\ brief.'
    template = Environment().from_string(chatml_with_system(system))
    question = Message("user", "Hi")
    for messages in ([question], [Message("system", "Other."), question]):
        rows = [{"role": one.role, "content": one.content} for one in messages]
        rendered = template.render(messages=rows, add_generation_prompt=True)
        assert rendered == ChatTemplate(system).render(messages, add_generation_prompt=True)


def test_a_tokenizer_of_bytes_needs_no_known_pattern(tmp_path: Path) -> None:
    tokenizer = ByteLevelBPE.train([], 258, (), SPECIAL)
    write_gguf(tmp_path / "model.gguf", make_model(vocab_size=258), tokenizer, name="bytes")
    again = load_gguf_tokenizer(tmp_path / "model.gguf")
    assert again.encode(TEXT) == tokenizer.encode(TEXT)


def test_models_that_cannot_be_written_are_refused_and_leave_no_file(tmp_path: Path, tokenizer: ByteLevelBPE) -> None:
    path = tmp_path / "model.gguf"
    adapted = make_model()
    add_lora(adapted, LoRAConfig(2, 4.0, ("q_proj",)))
    with pytest.raises(ValueError, match="has adapters; call merge_lora"):
        write_gguf(path, adapted, tokenizer, name="tiny")
    with pytest.raises(ValueError, match="the tokenizer has 290 tokens, but the model only 200"):
        write_gguf(path, make_model(vocab_size=200), tokenizer, name="tiny")
    with pytest.raises(ValueError, match=r"multiple of 32 weights, and those of model\.embed_tokens\.weight have 24"):
        write_gguf(path, make_model(dim=24), tokenizer, name="tiny", file_type="Q8_0")
    unknown = ByteLevelBPE.train([TEXT], 270, (r"\s+",), SPECIAL)
    with pytest.raises(ValueError, match=r"llama\.cpp has no name"):
        write_gguf(path, make_model(), unknown, name="tiny")
    config = make_model().config
    biased = Llama(LlamaConfig(**{**vars(config), "qkv_bias": True}))
    with pytest.raises(ValueError, match="qkv_bias is not written as GGUF here"):
        write_gguf(path, biased, tokenizer, name="tiny")
    assert not list(tmp_path.iterdir())
