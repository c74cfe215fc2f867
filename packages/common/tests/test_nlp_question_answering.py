"""Extractive question answering: spans, windows, scores against transformers, tokenizers and the official scripts."""

import numpy as np
import pytest
import torch
import transformers
from dlcommon.nlp.answer_metrics import Language, answer_tokens, exact_match, score_answer, token_f1
from dlcommon.nlp.span_extraction import (
    SpanExtractionHead,
    best_span,
    sliding_windows,
    span_loss,
    span_scores,
    token_span,
)
from dlcommon.transformer.bert import Bert, BertConfig
from dlcommon.transformer.bert_weights import load_transformers_weights
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.pipelines.document_question_answering import select_starts_ends


@pytest.mark.parametrize(("length", "size", "overlap"), [(23, 5, 2), (23, 4, 0), (23, 6, 5), (8, 4, 1), (3, 4, 2)])
def test_windows_are_those_of_tokenizers(length: int, size: int, overlap: int) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(size, stride=overlap)
    encoded = tokenizer.encode(" ".join("a" * length))
    expected = [(each.offsets[0][0] // 2, each.offsets[-1][0] // 2 + 1) for each in (encoded, *encoded.overflowing)]
    assert sliding_windows(length, size, overlap) == expected


def test_windows_that_would_not_advance_are_refused() -> None:
    for overlap in (4, 5, -1):
        with pytest.raises(ValueError, match="overlap must be from 0 to size - 1 = 3"):
            sliding_windows(10, 4, overlap)


def test_every_answer_within_the_overlap_is_held_whole() -> None:
    windows = sliding_windows(100, 16, 5)
    for first in range(95):
        assert any(start <= first and first + 6 <= end for start, end in windows)


def test_tokens_of_characters() -> None:
    offsets = [(0, 0), (0, 3), (4, 9), (9, 10), (0, 0)]  # [CLS] The Rhine . [SEP]
    assert token_span(offsets, 4, 9) == (2, 2)
    assert token_span(offsets, 0, 10) == (1, 3)
    assert token_span(offsets, 5, 8) == (2, 2)  # the token that holds a part of a word
    assert token_span(offsets, 9, 12) is None
    assert token_span(offsets[2:], 0, 9) is None
    assert token_span(offsets, 3, 4) is None  # a space


def test_head_and_loss_equal_those_of_transformers() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=40, **sizes)
    theirs = transformers.BertForQuestionAnswering(config).double().eval()
    bert, head = Bert(BertConfig(40, 16, 2, 2, 32), pooler=False).double().eval(), SpanExtractionHead(16).double()
    state = theirs.state_dict()
    load_transformers_weights(bert, {name: weights for name, weights in state.items() if name.startswith("bert.")})
    head.load_state_dict({"linear.weight": state["qa_outputs.weight"], "linear.bias": state["qa_outputs.bias"]})
    ids, mask = torch.randint(1, 40, (4, 9)), torch.ones(4, 9, dtype=torch.long)
    mask[1, 6:] = 0
    starts, ends = torch.tensor([2, 0, 5, 8]), torch.tensor([4, 0, 8, 8])
    segments = (torch.arange(9) >= 4).long().expand(4, 9)
    expected = theirs(ids, mask, segments, start_positions=starts, end_positions=ends)
    start_logits, end_logits = head(bert(ids, mask, segments))
    loss = span_loss(start_logits, end_logits, starts, ends)
    for ours, reference in (
        (start_logits, expected.start_logits),
        (end_logits, expected.end_logits),
        (loss, expected.loss),
    ):
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)
    gradients = torch.autograd.grad(loss, [head.linear.weight, bert.embeddings.word.weight])
    references = torch.autograd.grad(
        expected.loss, [theirs.qa_outputs.weight, theirs.bert.embeddings.word_embeddings.weight]
    )
    for ours, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("max_tokens", [1, 3, 15])
def test_decoding_equals_that_of_transformers_pipelines(max_tokens: int) -> None:
    generator = torch.Generator().manual_seed(max_tokens)
    for _ in range(20):
        start_logits, end_logits = (2 * torch.randn(1, 12, generator=generator) for _ in range(2))
        allowed = torch.ones(1, 12, dtype=torch.bool)
        allowed[:, :4], allowed[:, 10:] = False, False  # question and padding
        starts, ends, _, _ = select_starts_ends(
            start_logits.numpy(), end_logits.numpy(), (~allowed).numpy(), None, max_answer_len=max_tokens
        )
        span = best_span(start_logits, end_logits, allowed, max_tokens)
        assert span is not None
        assert (span.first, span.last) == (int(starts[0]), int(ends[0]))


def test_the_best_of_all_windows_is_what_trying_all_spans_finds() -> None:
    generator = torch.Generator().manual_seed(0)
    start_logits, end_logits = (torch.randn(3, 8, generator=generator) for _ in range(2))
    allowed = torch.rand(3, 8, generator=generator) < 0.7
    score, window, first, last = max(
        (float(start_logits[w, i] + end_logits[w, j]), w, i, j)
        for w in range(3)
        for i in range(8)
        for j in range(i, min(8, i + 4))
        if allowed[w, i] and allowed[w, j]
    )
    span = best_span(start_logits, end_logits, allowed, 4)
    assert span is not None
    assert (span.window, span.first, span.last) == (window, first, last)
    assert span.score == pytest.approx(score, rel=1e-6)
    assert span_scores(start_logits, end_logits, allowed, 4).isfinite().sum() == sum(
        bool(allowed[w, i] and allowed[w, j]) for w in range(3) for i in range(8) for j in range(i, min(8, i + 4))
    )


def test_no_answer() -> None:
    # [windows, tokens]: 'no answer' scores 4 and 2; the best span, token 1 of window 0, scores 3.
    start_logits, end_logits = torch.tensor([[2.0, 2.0, 0.0], [1.0, 0.0, 0.0]]), torch.tensor([[2.0, 1.0], [1.0, 0.0]])
    end_logits = torch.cat((end_logits, torch.zeros(2, 1)), dim=1)
    allowed = torch.tensor([[False, True, True]] * 2)
    for threshold, answered in ((None, True), (0.5, True), (1.0, False), (2.0, False)):
        assert (best_span(start_logits, end_logits, allowed, 2, threshold) is not None) == answered
    assert best_span(start_logits, end_logits, torch.zeros(2, 3, dtype=torch.bool), 2) is None


# Computed with SQuAD 2.0's script as transformers 4.40 has it ("en") and with MLQA's mlqa_evaluation_v1.py.
OFFICIAL: list[tuple[Language, str, str, float, float]] = [
    ("en", "The Panthers", "panthers", 1.0, 1.0),
    ("en", "a an the", "", 1.0, 1.0),
    ("en", "", "308", 0.0, 0.0),
    ("en", "gave up 308 points", "308", 0.0, 0.4),
    ("en", "308 308", "308", 0.0, 2 / 3),
    ("en", "U.S. dollars", "us dollars", 1.0, 1.0),
    ("en", "theory", "the ory", 0.0, 0.0),
    ("en", "“gold”", "gold", 0.0, 0.0),  # only ASCII punctuation is taken off
    ("en", "well-known man", "well known man", 0.0, 0.4),
    ("en", "points 308", "308 points", 0.0, 1.0),
    ("de", "Der „Rhein“", "rhein", 1.0, 1.0),
    ("de", "in der Stadt", "Stadt", 0.0, 2 / 3),
    ("zh", "在三百零八", "三百零八", 0.0, 8 / 9),
    ("zh", "《黑豹队》", "黑豹队", 1.0, 1.0),
    ("zh", "308 分", "308分", 1.0, 1.0),
    ("zh", "NFL 联盟", "nfl联盟", 1.0, 1.0),
    ("zh", "24 次拦截", "24次", 0.0, 2 / 3),
]


@pytest.mark.parametrize(("language", "prediction", "answer", "exact", "f1"), OFFICIAL)
def test_scores_are_those_of_the_official_scripts(
    language: Language, prediction: str, answer: str, exact: float, f1: float
) -> None:
    assert exact_match(prediction, answer, language) == exact
    assert token_f1(prediction, answer, language) == pytest.approx(f1, abs=1e-12)


def test_the_best_of_several_answers_counts_for_each_score() -> None:
    exact, f1 = score_answer("308 points", ["308", "three hundred"])
    assert (exact, f1) == pytest.approx((0.0, 2 / 3))
    assert score_answer("308", ["points", "308"]) == (1.0, 1.0)
    assert score_answer("", [""]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="at least one answer"):
        score_answer("308", [])


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        predicted, expected = (generator.choice(list("bcdef"), generator.integers(1, 8)).tolist() for _ in range(2))
        left, shared = list(expected), 0
        for token in predicted:
            if token in left:
                left.remove(token)
                shared += 1
        precision, recall = shared / len(predicted), shared / len(expected)
        f1 = 2 * precision * recall / (precision + recall) if shared else 0.0
        assert token_f1(" ".join(predicted), " ".join(expected)) == pytest.approx(f1)
    assert answer_tokens("An apple a day, the DOCTOR's") == ["apple", "day", "doctors"]
