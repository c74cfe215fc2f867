"""Beam and contrastive search against transformers, against exhaustive search, and against the paper's equation."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.transformer.beam_search import Hypothesis, State, beam_search, beam_search_steps
from dlcommon.transformer.contrastive_search import contrastive_search
from transformers import GPT2Config, GPT2LMHeadModel

VOCAB_SIZE, END = 7, 0


@pytest.fixture(scope="module")
def reference() -> GPT2LMHeadModel:
    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=VOCAB_SIZE, n_positions=32, n_embd=8, n_layer=1, n_head=2, eos_token_id=END, bos_token_id=END
    )
    model = GPT2LMHeadModel(config)
    model.train(False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)  # so that distributions are far from even, and neighbouring beams apart
    return model


def step_of(model: GPT2LMHeadModel) -> Callable[[np.ndarray, State], tuple[np.ndarray, State]]:
    """A step without a cache: the state is the text so far, as a batch of token ids [rows, tokens]."""

    def step(tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        text = np.concatenate((state["text"], tokens[:, None]), axis=1)
        with torch.no_grad():
            return model(torch.from_numpy(text)).logits[:, -1].double().numpy(), {"text": text}

    return step


def table_step(seed: int, vocab_size: int = 3) -> Callable[[np.ndarray, State], tuple[np.ndarray, State]]:
    """A step whose logits are drawn anew for each text, so that no beam predicts another one."""

    def step(tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        text = state["text"] * 10 + tokens[:, None]  # [rows, 1]
        drawn = [np.random.default_rng([seed, *row]).standard_normal(vocab_size) * 2 for row in text]
        return np.stack(drawn), {"text": text}

    return step


def prompts(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(1, VOCAB_SIZE, (count, 3))


def found_by(hypotheses: list[list[Hypothesis]]) -> list[list[int]]:
    """All sequences as transformers writes them: the end token where there is one."""
    return [[*one.tokens.tolist(), *([END] if one.ended else [])] for ranked in hypotheses for one in ranked]


@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("num_beams", [2, 4])
def test_beam_search_is_transformers(
    reference: GPT2LMHeadModel, num_beams: int, length_penalty: float, early_stopping: bool
) -> None:
    texts, max_length = prompts(6), 12
    ours = beam_search(
        step_of(reference),
        {"text": texts[:, :-1]},
        texts[:, -1],
        max_length=max_length,
        end_token=END,
        num_beams=num_beams,
        length_penalty=length_penalty,
        num_hypotheses=num_beams,
        early_stopping=early_stopping,
    )
    theirs = reference.generate(
        torch.from_numpy(texts),
        attention_mask=torch.ones(texts.shape, dtype=torch.long),
        max_new_tokens=max_length,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        length_penalty=length_penalty,
        early_stopping=True if early_stopping else "never",
        pad_token_id=VOCAB_SIZE,
        output_scores=True,
        return_dict_in_generate=True,
    )
    expected = [[int(token) for token in row if token != VOCAB_SIZE] for row in theirs.sequences[:, texts.shape[1] :]]
    assert found_by(ours) == expected
    assert len({len(sequence) for sequence in expected}) > 1  # sentences of several lengths were compared
    scores = [one.score for ranked in ours for one in ranked]
    assert scores == pytest.approx(theirs.sequences_scores.tolist(), abs=1e-5)


def test_one_beam_is_greedy_search(reference: GPT2LMHeadModel) -> None:
    texts, step = prompts(4), step_of(reference)
    found = beam_search(step, {"text": texts[:, :-1]}, texts[:, -1], max_length=9, end_token=END, num_beams=1)
    for text, ranked in zip(texts, found, strict=True):
        state: State = {"text": text[None, :-1]}
        token = text[-1:]
        expected: list[int] = []
        while len(expected) < 9 and (not expected or expected[-1] != END):
            logits, state = step(token, state)
            token = logits.argmax(axis=1)
            expected.append(int(token[0]))
        assert found_by([ranked]) == [expected]


def every_sequence(step: Callable[..., tuple[np.ndarray, State]], max_length: int, alpha: float) -> list[Hypothesis]:
    """Each sequence over {0: end, 1, 2} up to the maximal length, best first."""
    found = []
    for length in range(1, max_length + 1):
        for body in product((1, 2), repeat=length - 1):
            for last in (0, 1, 2) if length == max_length else (0,):
                sequence, log_probability = (*body, last), 0.0
                state: State = {"text": np.zeros((1, 1), np.int64)}
                for token, following in zip((1, *body), sequence, strict=True):
                    logits, state = step(np.array([token]), state)
                    log_probability += logits[0, following] - np.log(np.exp(logits[0]).sum())
                tokens = np.array(sequence if last else body)
                found.append(Hypothesis(tokens, log_probability / length**alpha, log_probability, last == 0))
    return sorted(found, key=lambda one: -one.score)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_beam_as_wide_as_everything_is_exhaustive_search(alpha: float) -> None:
    step = table_step(seed=5)
    expected = every_sequence(step, 4, alpha)
    (found,) = beam_search(
        step,
        {"text": np.zeros((1, 1), np.int64)},
        np.array([1]),
        max_length=4,
        end_token=0,
        num_beams=40,
        length_penalty=alpha,
        num_hypotheses=40,
        early_stopping=False,
    )
    assert len(found) == len(expected) == 1 + 2 + 4 + 8 * 3
    for one, other in zip(found, expected, strict=True):
        assert (one.tokens.tolist(), one.ended) == (other.tokens.tolist(), other.ended)
        assert (one.score, one.log_probability) == pytest.approx((other.score, other.log_probability))


def search(**options: Any) -> list[list[Hypothesis]]:
    texts = np.arange(1, 6)[:, None] * 7
    settings: dict[str, Any] = {"max_length": 6, "end_token": 0, "num_beams": 3} | options
    return beam_search(table_step(3, 9), {"text": texts}, np.ones(5, np.int64), **settings)


def test_sentences_do_not_influence_each_other_and_each_has_its_own_maximal_length() -> None:
    lengths = np.array([1, 3, 6, 2, 5])
    together = search(max_length=lengths, num_hypotheses=3)
    for number, length in enumerate(lengths):
        alone = search(max_length=int(length), num_hypotheses=3)[number]
        assert found_by([together[number]]) == found_by([alone])
        assert max(len(one.tokens) for one in alone) <= length


def test_sentences_that_are_done_leave_the_batch() -> None:
    rows = []
    step = table_step(3, 9)

    def counted(tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        rows.append(len(tokens))
        return step(tokens, state)

    texts = np.arange(2)[:, None]
    beam_search(counted, {"text": texts}, np.ones(2, np.int64), max_length=np.array([2, 4]), num_beams=3)
    assert rows == [2, 6, 3, 3]


def test_without_an_end_token_all_run_to_their_length() -> None:
    assert {(len(one.tokens), one.ended) for ranked in search(end_token=None) for one in ranked} == {(6, False)}


def test_tokens_of_probability_zero_are_never_written() -> None:
    def only_one_and_end(tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        logits = np.full((len(tokens), 5), -np.inf, np.float32)
        logits[:, :2] = 0
        return logits, state

    (found,) = beam_search(
        only_one_and_end, {}, np.ones(1, np.int64), max_length=2, end_token=0, num_beams=4, num_hypotheses=4
    )
    assert sorted(found_by([found])) == [[0], [1, 0], [1, 1]]
    assert sum(np.exp(one.log_probability) for one in found) == pytest.approx(1)


def test_it_pauses_after_every_step_and_closed_there_computes_no_more() -> None:
    read: list[int] = []
    step = table_step(3, 9)

    def counted(tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        read.append(len(tokens))
        return step(tokens, state)

    steps = beam_search_steps(counted, {"text": np.arange(2)[:, None]}, np.ones(2, np.int64), max_length=5)
    for number in range(1, 4):
        next(steps)
        assert len(read) == number
    steps.close()
    assert len(read) == 3


@pytest.mark.parametrize(
    "wrong", [{"num_beams": 0}, {"num_hypotheses": 4}, {"length_penalty": -1.0}, {"max_length": 0}]
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        search(**wrong)


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_contrastive_search_is_equation_5_of_the_paper(reference: GPT2LMHeadModel, alpha: float) -> None:
    def read(text: list[int]) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            output = reference(torch.tensor([text]), output_hidden_states=True)
        return output.logits[0, -1].numpy(), output.hidden_states[-1][0].numpy()  # [vocab_size], [tokens, dim]

    def step(tokens: np.ndarray, state: State) -> tuple[np.ndarray, np.ndarray, State]:
        texts = [[*row, token] for row, token in zip(state["text"].tolist(), tokens.tolist(), strict=True)]
        logits, features = zip(*map(read, texts), strict=True)
        return np.stack(logits), np.stack([each[-1] for each in features]), {"text": np.array(texts)}

    text = [1, 2, 3]
    logits, features = read(text)
    found = contrastive_search(step, {"text": np.array([text])}, logits, features, num_tokens=12, k=3, alpha=alpha)
    for token in found:
        probability = torch.from_numpy(read(text)[0]).softmax(dim=0)
        scores = {}
        for candidate in probability.topk(3).indices.tolist():
            hidden = torch.from_numpy(read([*text, candidate])[1])
            penalty = max(torch.cosine_similarity(hidden[-1], hidden[j], dim=0).item() for j in range(len(text)))
            scores[candidate] = (1 - alpha) * probability[candidate].item() - alpha * penalty
        assert token == max(scores, key=scores.__getitem__)
        text.append(int(token))
