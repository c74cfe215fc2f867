"""GloVe, subwords and the tests of word vectors: against autograd, gensim, and plain loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from dlcommon.nlp.association import associations, effect_size, permutation_p_value
from dlcommon.nlp.glove import GloVe, cooccurrences, glove_weights, train_glove
from dlcommon.nlp.similarity import neighbor_precision, solve_analogies
from dlcommon.nlp.subwords import character_ngrams, fnv_1a, ngram_rows, subword_table
from dlcommon.nlp.vector_geometry import all_but_the_top, mean_cosine, prune_vectors
from dlcommon.nlp.word2vec import train_word2vec
from gensim.models import KeyedVectors
from gensim.models.fasttext_inner import compute_ngrams, ft_hash_bytes
from sklearn.decomposition import PCA
from torch.nn import functional as F


def test_cooccurrences_equal_a_double_loop() -> None:
    ids = np.random.default_rng(0).integers(0, 5, size=30)
    expected = np.zeros((5, 5))
    for i, j in itertools.permutations(range(30), 2):
        if abs(i - j) <= 3:
            expected[ids[i], ids[j]] += 1 / abs(i - j)
    np.testing.assert_allclose(cooccurrences(ids, 5, window=3), expected)


def test_glove_s_loss_and_gradients_equal_autograd_entry_by_entry() -> None:
    random = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_()
        for shape in ((6, 3), (6, 3), (6,), (6,))
    ]
    counts = torch.rand(6, 6, generator=random, dtype=torch.float64) * 150
    counts[1, 2] = counts[4, 0] = 0
    reference = torch.zeros((), dtype=torch.float64)
    for i, j in itertools.product(range(6), repeat=2):
        x = counts[i, j].item()
        if x > 0:
            weight = (x / 100) ** 0.75 if x < 100 else 1.0
            product = torch.dot(leaves[0][i], leaves[1][j])
            reference = reference + weight * (product + leaves[2][i] + leaves[3][j] - math.log(x)) ** 2
    expected = torch.autograd.grad(reference, leaves)
    model = GloVe(*(leaf.detach() for leaf in leaves))
    loss, gradients = model.gradients(counts.clamp(min=1e-3).log(), glove_weights(counts))
    torch.testing.assert_close(loss, reference.detach())
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def _two_kinds(rng: np.random.Generator) -> np.ndarray:
    """Words 0 to 3 stand between 8 and 9, words 4 to 7 between 10 and 11."""
    kind = rng.integers(0, 2, size=3000)
    return np.stack((8 + 2 * kind, 4 * kind + rng.integers(0, 4, size=3000), 9 + 2 * kind), axis=1).flatten()


def test_glove_fits_the_table_and_finds_words_of_equal_surroundings() -> None:
    ids = _two_kinds(np.random.default_rng(0))
    model, losses = train_glove(cooccurrences(ids, 12, window=1), seed=0, dim=6, updates=150)
    assert losses[-1] < 0.05 * losses[0]
    assert neighbor_precision(model.vectors, [0, 1, 2, 3]) == [1.0] * 4


@pytest.mark.parametrize("word", ["where", "a", "naïve", "酒店", "internationalization"])
def test_ngrams_and_their_hash_equal_gensim_s(word: str) -> None:
    assert sorted(character_ngrams(word)) == sorted(compute_ngrams(word, 3, 6))
    for ngram in character_ngrams(word):
        assert fnv_1a(ngram) == ft_hash_bytes(ngram.encode())


def test_subwords_are_the_paper_s() -> None:
    assert character_ngrams("where", 3, 3) == ["<wh", "whe", "her", "ere", "re>"]
    table = subword_table(["where", "a"], buckets=50, shortest=3, longest=3)
    assert table.tolist() == [
        [0, *(2 + row for row in ngram_rows("where", 50, 3, 3))],
        [1, 2 + fnv_1a("<a>") % 50, *[-1] * 4],
    ]


def test_training_with_subwords_learns_the_rows_of_ngrams() -> None:
    ids = _two_kinds(np.random.default_rng(1))
    words = ["walked", "talked", "looked", "worked", "apples", "houses", "tables", "horses", "x", "y", "z", "w"]
    table = subword_table(words, buckets=400, shortest=3, longest=3)
    vectors, _ = train_word2vec(
        ids, np.bincount(ids), 0, dim=8, window=1, batch_size=256, threshold=1.0, subwords=table
    )
    assert vectors.input.shape == (table.max() + 1, 8)
    assert vectors.output.shape == (12, 8)

    def composed(word: str) -> torch.Tensor:
        return vectors.input[[12 + row for row in ngram_rows(word, 400, 3, 3) if 12 + row <= table.max()]].mean(dim=0)

    centers = torch.stack([vectors.input[table[n][table[n] >= 0]].mean(dim=0) for n in (0, 4)])
    cosines = F.cosine_similarity(composed("jerked")[None], centers)
    assert cosines[0] > cosines[1] + 0.5
    with pytest.raises(ValueError, match="skip-gram"):
        train_word2vec(ids, np.bincount(ids), 0, "cbow", subwords=table)


@pytest.mark.parametrize("exclude", [True, False])
def test_analogies_equal_gensim_s(exclude: bool) -> None:
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    theirs = KeyedVectors(6)
    theirs.add_vectors([str(n) for n in range(40)], vectors.numpy())
    questions = np.random.default_rng(0).permuted(np.tile(np.arange(40), (20, 1)), axis=1)[:, :3].T.tolist()
    first, second, third = questions
    answers = solve_analogies(vectors, first, second, third, exclude).tolist()
    unit = F.normalize(vectors)
    for a, b, c, answer in zip(*questions, answers, strict=True):
        if exclude:
            assert theirs.most_similar([str(b), str(c)], [str(a)], topn=1)[0][0] == str(answer)
        else:
            assert answer == F.cosine_similarity(unit[b] - unit[a] + unit[c], unit).argmax()


def test_mean_cosine_and_removed_components() -> None:
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(50, 5, generator=random, dtype=torch.float64) + 2
    pairs = list(itertools.combinations(range(50), 2))
    slow = np.mean([F.cosine_similarity(vectors[a], vectors[b], dim=0).item() for a, b in pairs])
    assert mean_cosine(vectors) == pytest.approx(slow, rel=1e-9)
    pca = PCA(2).fit(vectors.numpy())
    expected = vectors.numpy() - pca.inverse_transform(pca.transform(vectors.numpy()))
    np.testing.assert_allclose(all_but_the_top(vectors, 2).numpy(), expected, atol=1e-10)
    torch.testing.assert_close(all_but_the_top(vectors, 0), vectors - vectors.mean(dim=0))


def test_pruned_words_share_the_nearest_row() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [5.0, 1.0], [-1.0, 0.9]])
    assert prune_vectors(vectors, 3).tolist() == [0, 1, 2, 0, 2]
    assert prune_vectors(vectors, 5).tolist() == [0, 1, 2, 3, 4]


def test_an_association_test_equals_all_deals() -> None:
    random = torch.Generator().manual_seed(1)
    x, y, a, b = (torch.randn(n, 5, generator=random, dtype=torch.float64) for n in (4, 4, 3, 2))
    x += 0.5 * a.mean(dim=0)

    def slow(w: torch.Tensor) -> float:
        to_a = [F.cosine_similarity(w, each, dim=0).item() for each in a]
        return float(np.mean(to_a) - np.mean([F.cosine_similarity(w, each, dim=0).item() for each in b]))

    scores = [slow(w) for w in torch.cat((x, y))]
    first, second = associations(x, a, b), associations(y, a, b)
    np.testing.assert_allclose(torch.cat((first, second)).numpy(), scores)
    size = (np.mean(scores[:4]) - np.mean(scores[4:])) / np.std(scores, ddof=1)
    assert effect_size(first, second) == pytest.approx(size)
    observed = np.mean(scores[:4]) - np.mean(scores[4:])
    deals = [
        np.mean([scores[n] for n in chosen]) - np.mean([scores[n] for n in range(8) if n not in chosen])
        for chosen in itertools.combinations(range(8), 4)
    ]
    exact = np.mean([deal >= observed - 1e-12 for deal in deals])
    found = permutation_p_value(first, second, np.random.default_rng(0), 20_000)
    assert found == pytest.approx(exact, abs=0.015)
    assert permutation_p_value(first + 100, second, np.random.default_rng(0), 99) < 0.1
