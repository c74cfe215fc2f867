"""The tokenizer keeps special tokens out of what users write, and only knows models that speak ChatML."""

import json
from pathlib import Path

import pytest
from dlcommon.llm.chat_template import ChatTemplate, Message
from dlcommon.testing.skips import asset_or_skip
from llm_lora.tokenizer import Tokenizer, chatml

QWEN = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = "{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}"


def test_bytes_are_written_and_read_back() -> None:
    tokenizer = Tokenizer.of_bytes()
    text = "héllo 你好 <|im_end|>\n"
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.encode())
    assert tokenizer.end not in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode("<|im_end|>", allow_special=True) == [tokenizer.end]
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.encode_chat([Message("user", text)]) == tokenizer.encode_chat([Message("user", text)])


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"tokenizer": "x", "default_system": None})])
def test_a_damaged_tokenizer_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="the tokenizer is damaged"):
        Tokenizer.from_json(content)


def test_chat_templates() -> None:
    assert chatml(QWEN) == ChatTemplate()
    with_system = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    assert chatml(with_system + QWEN) == ChatTemplate("Be kind.")
    with pytest.raises(ValueError, match="is not ChatML"):
        chatml(LLAMA2)
    with pytest.raises(ValueError, match="no chat template"):
        chatml(None)
    with pytest.raises(ValueError, match="cannot be rendered"):
        chatml("{% if %}")


def test_a_model_of_the_hub_is_read_from_its_folder(tmp_path: Path) -> None:
    stored = json.loads(Tokenizer.of_bytes().to_json())["tokenizer"]
    (tmp_path / "tokenizer.json").write_text(stored, encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": QWEN}))
    assert Tokenizer.from_folder(tmp_path).encode("abc") == Tokenizer.of_bytes().encode("abc")


def test_smollm2_from_gguf_reads_text_as_the_course_does() -> None:
    from dlcommon.llm.gguf_file import open_gguf
    from dlcommon.llm.gguf_tokenizer import load_gguf_tokenizer

    reader = open_gguf(asset_or_skip("smollm2-135m-instruct", "gguf").files()[0])
    tokenizer, ours = Tokenizer.from_gguf(reader), load_gguf_tokenizer(reader)
    for text in ("It's 12345 + 67,  or\n\n\tmore… 你好 <|im_end|>", "def f(x):\n    return x ** 2"):
        assert tokenizer.encode(text) == ours.encode(text)
    assert tokenizer.template.default_system == "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
