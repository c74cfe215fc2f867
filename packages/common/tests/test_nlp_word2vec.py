"""word2vec: examples, loss and gradients against other ways to compute them, single updates against gensim."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.nlp.phrases import join_phrases, phrase_scores
from dlcommon.nlp.similarity import (
    nearest_label_accuracy,
    nearest_neighbors,
    neighbor_agreement,
    neighbor_precision,
)
from dlcommon.nlp.vocabulary import Vocabulary
from dlcommon.nlp.word2vec import (
    Word2Vec,
    cbow_examples,
    context_windows,
    keep_probability,
    negative_sampling,
    noise_distribution,
    skip_gram_examples,
    train_word2vec,
)
from gensim.models import Word2Vec as GensimWord2Vec
from gensim.models.phrases import original_scorer
from torch.nn import functional as F


def test_a_vocabulary_keeps_frequent_words_and_drops_unknown_ones() -> None:
    tokens = "a rose is a rose is a rose and so on".split()
    vocabulary = Vocabulary.build(tokens, min_count=2)
    assert vocabulary.words == ("a", "rose", "is")
    assert vocabulary.counts.tolist() == [3, 3, 2]
    assert vocabulary.encode("so is a rose".split()).tolist() == [2, 0, 1]
    assert vocabulary.known(["rose", "lily", "a"]) == [1, 0]
    assert len(vocabulary) == 3
    with pytest.raises(ValueError, match="no word occurs 9 times"):
        Vocabulary.build(tokens, min_count=9)


def test_phrase_scores_equal_gensim_s_up_to_their_unit() -> None:
    ids = np.random.default_rng(0).integers(0, 6, size=300)
    pairs, scores = phrase_scores(ids, discount=3)
    counts = np.bincount(ids)
    for (a, b), score in zip(pairs.tolist(), scores.tolist(), strict=True):
        together = int(((ids[:-1] == a) & (ids[1:] == b)).sum())
        theirs = original_scorer(counts[a], counts[b], together, len(counts), 3, len(ids))
        assert score == pytest.approx(theirs * len(ids) / len(counts), rel=1e-12)
    assert len(pairs) == len({(a, b) for a, b in zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True)})


def test_phrases_are_joined_from_left_to_right_each_token_once() -> None:
    tokens = list("xyzxyz.abxyxyab" * 5)
    joined = join_phrases(tokens, 0, 1.5, lambda a, b: "." not in (a, b) and a + b != "bx")
    assert "".join(joined) == "".join(tokens)
    assert joined[:9] == ["xy", "zx", "yz", ".", "ab", "xy", "xy", "ab", "xy"]
    again = join_phrases(joined, 0, 1.5, lambda a, b: "." not in (a, b), separator="_")
    assert again[:4] == ["xy_zx", "yz", ".", "ab_xy"]
    assert "".join(again).replace("_", "") == "".join(tokens)
    assert join_phrases(tokens, 1000, 1.5, lambda a, b: True) == tokens


def test_frequent_words_are_dropped_and_noise_is_flattened() -> None:
    counts = np.array([900, 90, 9, 1])
    np.testing.assert_allclose(keep_probability(counts, 0.01), [math.sqrt(0.01 / 0.9), math.sqrt(0.01 / 0.09), 1, 1])
    np.testing.assert_allclose(noise_distribution(counts, 1.0), counts / 1000)
    np.testing.assert_allclose(noise_distribution(counts, 0.0), [0.25] * 4)
    model = GensimWord2Vec(vector_size=2, min_count=1, negative=5)
    model.build_vocab_from_freq({str(n): int(count) for n, count in enumerate(counts)})
    theirs = np.diff(model.cum_table, prepend=0) / model.cum_table[-1]
    np.testing.assert_allclose(noise_distribution(counts), theirs, atol=1e-8)


def test_windows_hold_what_a_double_loop_finds() -> None:
    ids, window = np.random.default_rng(0).integers(0, 9, size=40), 3
    windows = context_windows(ids, window, np.random.default_rng(5))
    reach = np.random.default_rng(5).integers(1, window + 1, size=40)
    pairs = [
        (int(ids[center]), int(ids[place]))
        for center in range(40)
        for place in range(max(0, center - reach[center]), min(40, center + reach[center] + 1))
        if place != center
    ]
    inputs, targets = skip_gram_examples(ids, windows)
    assert list(zip(inputs[:, 0].tolist(), targets.tolist(), strict=True)) == pairs
    contexts, words = cbow_examples(ids, windows)
    assert words.tolist() == ids.tolist()
    assert sorted(contexts[contexts >= 0].tolist()) == sorted(neighbor for _, neighbor in pairs)
    assert [(row >= 0).sum() for row in contexts] == [sum(1 for n in _neighbors(n, reach)) for n in range(40)]
    assert len(cbow_examples(ids[:1], context_windows(ids[:1], 3, np.random.default_rng(0)))[1]) == 0


def _neighbors(center: int, reach: np.ndarray) -> list[int]:
    return [n for n in range(40) if n != center and abs(n - center) <= reach[center]]


def test_loss_and_gradients_equal_autograd_of_binary_cross_entropy() -> None:
    random = torch.Generator().manual_seed(0)
    shapes = ((7, 4), (7, 4), (3, 4))
    leaves = [torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_() for shape in shapes]
    weight = torch.rand(7, 3, generator=random, dtype=torch.float64)
    hidden, positive, negative = leaves
    logits = torch.cat(
        (torch.einsum("bd,bd->b", hidden, positive)[:, None], torch.einsum("bd,nd->bn", hidden, negative)), 1
    )
    answers = F.one_hot(torch.zeros(7, dtype=torch.long), 4).double()
    weights = torch.cat((torch.ones(7, 1, dtype=torch.float64), weight), 1)
    reference = F.binary_cross_entropy_with_logits(logits, answers, weights, reduction="sum")
    expected = torch.autograd.grad(reference, leaves)
    with torch.no_grad():
        loss, *gradients = negative_sampling(hidden, positive, negative, weight)
    torch.testing.assert_close(loss, reference.detach())
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("width", [1, 3])
def test_gradients_of_the_tables_equal_autograd_word_by_word(width: int) -> None:
    random = torch.Generator().manual_seed(width)
    tables = [torch.randn(9, 5, generator=random, dtype=torch.float64).requires_grad_() for _ in range(2)]
    inputs = torch.randint(0, 9, (20, width), generator=random)
    if width > 1:
        inputs[::2, 1:] = -1
        inputs[1::4, 0] = -1
    targets, noise = torch.randint(0, 9, (20,), generator=random), torch.tensor([1, 4, 4, 8])
    reference = torch.zeros((), dtype=torch.float64)
    for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        hidden = torch.stack([tables[0][n] for n in row if n >= 0]).mean(dim=0)
        reference = reference - (hidden @ tables[1][target]).sigmoid().log()
        for word in noise.tolist():
            if word != target:
                reference = reference - 5 / 4 * (-hidden @ tables[1][word]).sigmoid().log()
    expected = torch.autograd.grad(reference, tables)
    vectors = Word2Vec(*(table.detach() for table in tables))
    loss, *gradients = vectors.gradients(inputs, targets, noise, negatives=5.0)
    torch.testing.assert_close(loss, reference.detach())
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("skip_gram", [True, False])
def test_an_update_equals_gensim_s(skip_gram: bool) -> None:
    rate, tables = 0.05, np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32) / 2
    model: Any = GensimWord2Vec(
        vector_size=6, window=1, min_count=1, negative=1, sample=0, sg=int(skip_gram), cbow_mean=1, workers=1
    )
    model.build_vocab_from_freq({"a": 3, "b": 2, "c": 1})
    model.wv.vectors[:], model.syn1neg[:] = tables
    model.cum_table = np.array([0, 0, 2**31 - 1], dtype=np.uint32)  # the noise is always "c"
    model.train([["a", "b"]], total_examples=1, epochs=1, start_alpha=rate, end_alpha=rate)
    ours = Word2Vec(*torch.from_numpy(tables.copy()))
    for given, wanted in ((1, 0), (0, 1)):  # gensim predicts each word from its neighbor, one after the other
        _, of_input, of_output = ours.gradients(
            torch.tensor([[given]]), torch.tensor([wanted]), torch.tensor([2]), negatives=1.0
        )
        ours.input -= rate * of_input
        ours.output -= rate * of_output
    # gensim looks sigmoids up in a table of 1,000 between -6 and 6: its steps are 0.012 · σ' ≤ 0.003 wide.
    for mine, theirs, before in zip((ours.input, ours.output), (model.wv.vectors, model.syn1neg), tables, strict=True):
        assert np.abs(theirs - before).max() > 0.01
        torch.testing.assert_close(
            mine - torch.from_numpy(before), torch.from_numpy(theirs - before), rtol=0.01, atol=3e-4
        )


@pytest.mark.parametrize("model", ["skip-gram", "cbow"])
def test_words_of_equal_surroundings_become_neighbors(model: Any) -> None:
    rng = np.random.default_rng(0)
    # Words 0 to 3 stand between 8 and 9, words 4 to 7 between 10 and 11.
    kind = rng.integers(0, 2, size=3000)
    ids = np.stack((8 + 2 * kind, 4 * kind + rng.integers(0, 4, size=3000), 9 + 2 * kind), axis=1).flatten()
    vectors, losses = train_word2vec(
        ids, np.bincount(ids), 0, model, dim=8, window=1, epochs=3, batch_size=256, threshold=1.0
    )
    assert losses[-1] < 0.9 * losses[0]
    assert neighbor_precision(vectors.input, [0, 1, 2, 3]) == [1.0] * 4
    again, _ = train_word2vec(ids, np.bincount(ids), 0, model, dim=8, window=1, epochs=3, batch_size=256, threshold=1.0)
    assert torch.equal(vectors.input, again.input)


def test_neighbors_leave_the_word_itself_out() -> None:
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 3.0], [0.0, 0.0]])
    assert nearest_neighbors(vectors, [0, 3], 2).tolist() == [[1, 3], [2, 1]]
    assert neighbor_precision(vectors, [0, 1]) == [1.0, 1.0]
    assert neighbor_precision(vectors, [0, 1, 2]) == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="two words"):
        neighbor_precision(vectors, [0])


def test_agreement_of_neighbors_does_not_see_rotations() -> None:
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(50, 8, generator=random)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=random))
    assert neighbor_agreement(vectors, 3 * vectors @ rotation, range(50)) == 1.0
    assert neighbor_agreement(vectors, torch.randn(50, 4, generator=random), range(50)) == pytest.approx(
        10 / 49, abs=0.1
    )


def test_the_nearest_label_is_that_of_another_word() -> None:
    vectors = torch.tensor([[9.0, 9.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    assert nearest_label_accuracy(vectors, [1, 2, 3, 4], [0, 0, 1, 1]) == 1.0
    assert nearest_label_accuracy(vectors, [1, 2, 3, 4], [0, 1, 0, 1]) == 0.0
