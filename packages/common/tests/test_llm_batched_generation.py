"""Texts that are generated in a batch are those that are generated one at a time, without a cache or padding."""

import pytest
import torch
from dlcommon.llm.batched_generation import generate_greedily
from dlcommon.llm.llama import Llama, LlamaConfig

STOP = 3


@pytest.fixture(scope="module")
def model() -> Llama:
    torch.manual_seed(1)
    model = Llama(
        LlamaConfig(
            vocab_size=12,
            dim=16,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8,
            feedforward_dim=24,
            context_length=40,
            tie_embeddings=True,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.double().eval()


def alone(model: Llama, prompt: list[int], max_new_tokens: int) -> list[int]:
    """Generates without cache, batch or padding."""
    tokens = list(prompt)
    with torch.inference_mode():
        while len(tokens) < len(prompt) + max_new_tokens:
            new = int(model(torch.tensor([tokens]))[0, -1].argmax())
            if new == STOP:
                break
            tokens.append(new)
    return tokens[len(prompt) :]


def random_prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(12, (length,), generator=generator).tolist() for length in (4, 1, 9, 2, 7, 3, 12, 5, 6)]


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_a_batch_writes_what_each_prompt_gets_alone(model: Llama, batch_size: int) -> None:
    prompts = random_prompts()
    expected = [alone(model, prompt, 10) for prompt in prompts]
    finished: list[int] = []
    answers = generate_greedily(
        model, prompts, max_new_tokens=10, stop={STOP}, batch_size=batch_size, progress=finished.append
    )
    assert answers == expected
    assert finished[-1] == len(prompts)
    assert min(map(len, expected)) < 10 == max(map(len, expected)), (
        "some texts end and others do not, so that rows leave the batch"
    )


def test_every_text_may_end_at_once(model: Llama) -> None:
    assert generate_greedily(model, [[1, 2], [4]], max_new_tokens=3, stop=range(12)) == [[], []]
    assert generate_greedily(model, [], max_new_tokens=3, stop={STOP}) == []


def test_prompts_that_cannot_be_continued_are_named(model: Llama) -> None:
    with pytest.raises(ValueError, match="prompt 1 has no tokens"):
        generate_greedily(model, [[1], []], max_new_tokens=3, stop={STOP})
    with pytest.raises(ValueError, match="prompt 0 has 38 tokens; with 3 new ones it does not fit a context of 40"):
        generate_greedily(model, [[1] * 38], max_new_tokens=3, stop={STOP})
