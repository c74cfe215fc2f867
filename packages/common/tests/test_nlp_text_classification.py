"""Counts, TF-IDF and naive Bayes against scikit-learn's; TextCNN against torch's convolution."""

import numpy as np
import pytest
import torch
from dlcommon.nlp.bag_of_words import CountVectorizer, MultinomialNaiveBayes, TfidfTransformer, terms_of
from dlcommon.nlp.text_cnn import TextCNN, max_over_time, windows
from sklearn.feature_extraction import text as sklearn_text
from sklearn.naive_bayes import MultinomialNB
from torch.nn import functional as F

TEXTS = [
    "A good film , not a bad one",
    "Not good . Not GOOD at all ; it 's bad",
    "über-schöne Bilder , 42 times !",
    "a i",  # no word of two letters
    "the film the film the end",
]
UNSEEN = ["good end of an unknown saga", "", "film film film"]
LABELS = np.array([1, 0, 1, 0, 2])


def test_terms_are_words_then_pairs_of_neighbors() -> None:
    assert terms_of("Not a GOOD film!") == ["not", "good", "film"]
    assert terms_of("Not a GOOD film!", longest=2) == ["not", "good", "film", "not good", "good film"]
    assert terms_of("") == []


@pytest.mark.parametrize("longest", [1, 2, 3])
@pytest.mark.parametrize("min_df", [1, 2])
def test_counts_and_tfidf_are_scikit_learns(longest: int, min_df: int) -> None:
    ours = CountVectorizer(longest, min_df).fit(TEXTS)
    theirs = sklearn_text.CountVectorizer(ngram_range=(1, longest), min_df=min_df).fit(TEXTS)
    assert list(ours.columns) == theirs.get_feature_names_out().tolist()
    weights = TfidfTransformer().fit(ours.transform(TEXTS))
    expected = sklearn_text.TfidfVectorizer(ngram_range=(1, longest), min_df=min_df).fit(TEXTS)
    np.testing.assert_allclose(weights.idf, expected.idf_, rtol=1e-12)
    for texts in (TEXTS, UNSEEN):
        counts = ours.transform(texts)
        np.testing.assert_array_equal(counts.toarray(), theirs.transform(texts).toarray())
        np.testing.assert_allclose(
            weights.transform(counts).toarray(), expected.transform(texts).toarray(), rtol=1e-12, atol=1e-15
        )


@pytest.mark.parametrize("alpha", [1.0, 0.1])
def test_naive_bayes_is_scikit_learns(alpha: float) -> None:
    vectorizer = CountVectorizer().fit(TEXTS)
    ours = MultinomialNaiveBayes(alpha).fit(vectorizer.transform(TEXTS), LABELS)
    theirs = MultinomialNB(alpha=alpha).fit(vectorizer.transform(TEXTS), LABELS)
    np.testing.assert_allclose(ours.log_prior, theirs.class_log_prior_, rtol=1e-12)
    np.testing.assert_allclose(ours.log_probability, theirs.feature_log_prob_, rtol=1e-12)
    counts = vectorizer.transform(UNSEEN)
    np.testing.assert_allclose(ours.joint_log_likelihood(counts), theirs.predict_joint_log_proba(counts), rtol=1e-12)
    np.testing.assert_array_equal(ours.predict(counts), theirs.predict(counts))


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="no term is in 9 of the texts"):
        CountVectorizer(min_df=9).fit(TEXTS)
    with pytest.raises(ValueError, match="alpha must be positive, not 0"):
        MultinomialNaiveBayes(0)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of four texts; the last is shorter than any filter."""
    mask = torch.arange(9) < torch.tensor([9, 4, 6, 1])[:, None]
    ids = torch.randint(1, 30, (4, 9), generator=torch.Generator().manual_seed(0)).masked_fill(~mask, 0)
    return ids, mask


@pytest.mark.parametrize("width", [1, 3, 5])
def test_windows_with_a_linear_map_are_a_convolution_in_value_and_gradient(width: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 7, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, width * 4, generator=generator, dtype=torch.float64, requires_grad=True)
    ours = windows(x, width) @ weight.T
    kernel = weight.unflatten(1, (width, 4)).transpose(1, 2)  # [filters, dim, width], as conv1d wants it
    theirs = F.conv1d(F.pad(x.transpose(1, 2), (0, width - 1)), kernel).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad((ours * upstream).sum(), (x, weight)),
        torch.autograd.grad((theirs * upstream).sum(), (x, weight)),
        rtol=1e-12,
        atol=1e-12,
    )


def test_the_network_is_kims_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    network = TextCNN(30, 3, dim=8, widths=(2, 3), filters=5).double().eval()
    ids, mask = batch()
    pooled = []
    for n, length in enumerate(mask.sum(dim=1).tolist()):  # text by text, without padding
        x = network.embedding(ids[n : n + 1, :length]).transpose(1, 2)
        each = []
        for width, filters in zip(network.widths, network.filters, strict=True):
            assert isinstance(filters, torch.nn.Linear)
            kernel = filters.weight.unflatten(1, (width, 8)).transpose(1, 2)
            each.append(F.conv1d(F.pad(x, (0, width - 1)), kernel, filters.bias).relu().amax(dim=2))
        pooled.append(torch.cat(each, dim=1))
    expected = network.classifier(torch.cat(pooled))
    found = network(ids, mask)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    parameters = tuple(network.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), parameters),
        torch.autograd.grad(expected.square().sum(), parameters),
        rtol=1e-10,
        atol=1e-12,
    )


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    network = TextCNN(30, 2).eval()
    ids, mask = batch()
    longer = network(F.pad(ids, (0, 6)), F.pad(mask, (0, 6)))
    torch.testing.assert_close(network(ids, mask), longer, rtol=1e-5, atol=1e-6)
    assert torch.equal(max_over_time(-torch.ones(1, 3, 2), torch.tensor([[True, False, False]])), -torch.ones(1, 2))
