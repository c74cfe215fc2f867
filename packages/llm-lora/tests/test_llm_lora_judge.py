"""The offline judge, likelihood margins, forgetting and the error of merging, on a tiny random model."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from dlcommon.llm.chat_template import Message
from dlcommon.nlp.lora import LoRAConfig, add_lora, lora_layers
from dlcommon.runtime.data.conversations import Conversation, Preference
from llm_lora.assessment import assess, compare_assessments
from llm_lora.bases import Base, tiny_base
from llm_lora.forgetting import forgetting, text_loss
from llm_lora.instruction_checks import PROMPTS
from llm_lora.judge import compare, mean_rouge, score_answer, win_rate
from llm_lora.merging import MergeError, measure_merging, merged_copy, worst
from llm_lora.preferences import preference_margins
from torch.nn import functional as F

REFERENCE = "The capital of France is Paris."


@pytest.fixture(scope="module")
def base() -> Base:
    made = tiny_base()
    torch.manual_seed(1)
    for parameter in made.network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def test_the_judge_prefers_what_is_closer_to_the_reference() -> None:
    assert compare("The capital of France is Paris.", "It is Lyon.", REFERENCE) == "first"
    assert compare("It is Lyon.", "Paris is the capital of France.", REFERENCE) == "second"
    assert compare("The capital is Paris", "the capital is Paris!", REFERENCE) == "tie"
    assert compare("", "Paris", REFERENCE) == "second"
    assert compare("", " ", REFERENCE) == "tie"


def test_an_answer_that_rambles_has_score_zero() -> None:
    assert score_answer(f"{REFERENCE} " * 6, REFERENCE) == 0
    assert score_answer("Paris " * 30, REFERENCE) > 0, "30 words are no rambling, however short the reference"
    assert score_answer(f"{REFERENCE} " * 4, REFERENCE) > 0


def test_the_win_rate_counts_ties_half_and_has_an_interval() -> None:
    references = [REFERENCE] * 40
    good, bad = REFERENCE, "no"
    answers, others = [good] * 20 + [bad] * 20, [bad] * 10 + [good] * 10 + [bad] * 20
    found = win_rate(answers, others, references)
    assert (found.wins, found.ties, found.losses) == (10, 30, 0)
    assert found.rate == 0.625
    assert 0.5 < found.interval[0] < 0.625 < found.interval[1] < 0.75
    assert win_rate(others, answers, references).rate == pytest.approx(1 - 0.625)
    assert win_rate(answers, others, references) == found
    with pytest.raises(ValueError, match="1 and 2 answers to 2 instructions"):
        win_rate(["a"], ["a", "b"], ["a", "b"])
    mean, (low, high) = mean_rouge([good, bad], [REFERENCE, REFERENCE])
    assert (mean, low, high) == (0.5, 0.0, 1.0)


def pair(question: str, chosen: str, rejected: str) -> Conversation:
    return Conversation((Message("user", question), Message("assistant", chosen)), Preference(chosen, rejected))


def test_a_model_is_assessed_before_and_after(base: Base) -> None:
    conversations = [pair(f"Say {word}.", word, "no") for word in ("yes", "maybe so", "hm")]
    before = assess(base, conversations, "some other text " * 20, prompts=PROMPTS[:2], batch_size=2)
    worse = copy.deepcopy(base.network)
    worse.model.norm.weight.data *= 3
    after = assess(Base(worse, base.tokenizer), conversations, "some other text " * 20, prompts=PROMPTS[:2])
    assert len(before.answers) == len(before.references) == 3
    assert before.references == ("yes", "maybe so", "hm")
    figures = before.figures()
    assert {"perplexity", "rouge_l", "prompt_strict", "preference_accuracy", "text_bits_per_byte"} <= figures.keys()
    assert json.loads(json.dumps(figures))["perplexity"] == before.perplexity

    nats, count = 0.0, 0
    for one in conversations:
        tokens, is_answer = base.tokenizer.encode_chat(one.messages)
        with torch.inference_mode():
            losses = F.cross_entropy(
                base.network(torch.tensor([tokens]))[0, :-1], torch.tensor(tokens[1:]), reduction="none"
            )
        nats += losses[torch.tensor(is_answer)[1:]].sum().item()
        count += sum(is_answer)
    assert before.perplexity == pytest.approx(math.exp(nats / count), rel=1e-5)

    won, lost = compare_assessments(before, after)
    assert won.wins + won.ties + won.losses == 3
    assert lost is not None
    assert before.text is not None
    assert lost.before == before.text.bits_per_byte
    plain = [Conversation(one.messages) for one in conversations]
    without = assess(base, plain, prompts=PROMPTS[:1])
    assert without.preferences is None
    assert compare_assessments(without, without)[1] is None


def test_margins_are_log_probabilities_per_token(base: Base) -> None:
    pairs = [pair("One?", "yes, certainly", "no"), pair("Two or three?", "b", "acd"), pair("Same?", "x", "x")]
    found = preference_margins(base, pairs, row_length=512)
    assert found.n == 2, "two equal answers are no preference"

    def mean_log_prob(conversation: Conversation, answer: str) -> float:
        """Computes it for this answer alone, without packing."""
        tokens, is_answer = base.tokenizer.encode_chat(conversation.with_answer(answer))
        ids, mask = torch.tensor([tokens]), torch.tensor(is_answer)[1:]
        with torch.inference_mode():
            log_probs = F.log_softmax(base.network(ids)[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        return log_probs[mask].mean().item()

    margins = [mean_log_prob(one, one.preference.chosen) - mean_log_prob(one, one.preference.rejected)
               for one in pairs[:2] if one.preference is not None]  # fmt: skip
    assert found.mean == pytest.approx(np.mean(margins), abs=1e-5)
    assert found.accuracy == np.mean([margin > 0 for margin in margins])
    assert found.accuracy_interval[0] <= found.accuracy <= found.accuracy_interval[1]
    assert min(margins) - 1e-5 <= found.mean_interval[0] <= found.mean_interval[1] <= max(margins) + 1e-5
    with pytest.raises(ValueError, match="no conversation holds two different answers"):
        preference_margins(base, pairs[2:])


def test_the_loss_of_a_text_is_that_of_its_windows(base: Base) -> None:
    text = "The tower is 324 metres tall, naïve 潮 and so on. " * 4
    found = text_loss(base, text, window=50, batch=3)
    tokens = base.tokenizer.encode(text)
    windows = [tokens[start : start + 50] for start in range(0, len(tokens), 50)]
    with torch.inference_mode():
        expected = [
            F.cross_entropy(base.network(torch.tensor([one]))[0, :-1], torch.tensor(one[1:]), reduction="sum").item()
            for one in windows
        ]
    assert found.nats.tolist() == pytest.approx(expected, rel=1e-5)
    assert found.tokens == sum(len(one) - 1 for one in windows)
    assert found.perplexity == pytest.approx(math.exp(sum(expected) / found.tokens))
    assert text_loss(base, "plain ascii text", window=8).bits_per_byte == pytest.approx(
        math.log2(text_loss(base, "plain ascii text", window=8).perplexity)
    ), "a token of this tokenizer is a byte"
    assert text_loss(base, text, max_tokens=20).tokens == 19
    with pytest.raises(ValueError, match="a text of 1 tokens cannot be predicted"):
        text_loss(base, "a")


def test_forgetting_is_paired_over_windows(base: Base) -> None:
    text = "".join(chr(ord("a") + number * 7 % 26) for number in range(600))
    before = text_loss(base, text, window=50)
    worse = copy.deepcopy(base.network)
    worse.model.norm.weight.data *= 3  # more confident, and as ignorant
    after = text_loss(Base(worse, base.tokenizer), text, window=50)
    found = forgetting(before, after)
    assert found.increase == pytest.approx(after.bits_per_byte - before.bits_per_byte)
    assert found.interval[0] < found.increase < found.interval[1]
    assert forgetting(before, before).interval == (0, 0)
    with pytest.raises(ValueError, match="not of the same windows"):
        forgetting(before, text_loss(base, text, window=60))


@pytest.fixture(scope="module")
def merge_errors(base: Base) -> dict[str, MergeError]:
    network = copy.deepcopy(base.network)
    add_lora(network, LoRAConfig(4, 8.0, ("*",)))
    torch.manual_seed(2)
    for layer in lora_layers(network).values():
        torch.nn.init.normal_(layer.lora_b, std=0.02)
    before = copy.deepcopy(network.state_dict())
    tokens = torch.randint(len(base.tokenizer), (2, 30))
    found = measure_merging(network, tokens)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    merged = merged_copy(network)
    assert not lora_layers(merged)
    torch.testing.assert_close(merged(tokens), network(tokens), rtol=1e-4, atol=1e-5)
    return {one.precision: one for one in found}


def test_merging_is_exact_up_to_rounding_but_not_in_four_bits(merge_errors: dict[str, MergeError]) -> None:
    assert list(merge_errors) == ["float32", "bfloat16", "nf4", "nf4 to bfloat16"]
    exact, half, four_bits, kept = merge_errors.values()
    assert worst(list(merge_errors.values())) is None
    assert exact.divergence < 1e-8
    assert exact.same_choice == 1
    assert exact.adapter_effect > 1e-6
    assert exact.divergence < half.divergence < four_bits.divergence
    assert kept.divergence < four_bits.divergence / 3


def test_an_error_beyond_the_tolerance_is_found(merge_errors: dict[str, MergeError]) -> None:
    wrong = MergeError("float32", 1.0, 0.5, 0.1, 0.5)
    assert worst([*merge_errors.values(), wrong]) is wrong


def test_a_network_without_adapters_has_nothing_to_merge(base: Base) -> None:
    with pytest.raises(ValueError, match="no adapters to merge"):
        measure_merging(base.network, torch.zeros(1, 3, dtype=torch.int64))
