"""BM25 equals bm25s; terms, ranks and recall."""

import bm25s
import numpy as np
import pytest
from dlcommon.nlp.retrieval import BM25, mean_reciprocal_rank, ranks, recall_at_k, search_terms


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (1.2, 0.0), (0.9, 1.0), (0.0, 0.5)])
def test_bm25_equals_the_library(k1: float, b: float) -> None:
    generator = np.random.default_rng(0)
    documents = [generator.choice(list("abcdefgh"), generator.integers(1, 20)).tolist() for _ in range(30)]
    library = bm25s.BM25(method="lucene", k1=k1, b=b, dtype="float64")
    library.index(documents, show_progress=False)
    ours = BM25(documents, k1=k1, b=b)
    for query in (["a"], ["a", "b", "a", "unknown"], list("hgf")):
        np.testing.assert_allclose(ours.scores(query), library.get_scores(query), rtol=1e-12, atol=1e-14)


def test_bm25_of_terms_that_no_document_has() -> None:
    index = BM25([["a"], ["b", "c"]])
    assert index.scores(["x"]).tolist() == [0.0, 0.0]
    assert index.scores([]).tolist() == [0.0, 0.0]
    assert "x" not in index.postings
    assert index.idf("x") > index.idf("a") > 0


def test_documents_may_be_empty_but_not_absent() -> None:
    assert BM25([[], ["a"]]).scores(["a"])[0] == 0.0
    assert BM25([[]]).scores(["a"]).tolist() == [0.0]
    with pytest.raises(ValueError, match="at least one document"):
        BM25([])
    for k1, b in ((-1.0, 0.5), (1.0, 1.5)):
        with pytest.raises(ValueError, match="k1 must be at least 0 and b from 0 to 1"):
            BM25([["a"]], k1=k1, b=b)


def test_terms_of_both_scripts() -> None:
    assert search_terms("The Rhine's 1,233 km") == ["the", "rhine", "s", "1", "233", "km"]
    assert search_terms("黑豹队丢了308分") == ["黑豹", "豹队", "队丢", "丢了", "308", "分"]
    assert search_terms("黑豹队", (1, 2)) == ["黑", "豹", "队", "黑豹", "豹队"]
    assert search_terms("黑豹队，好", (3,)) == ["黑豹队", "好"]
    assert search_terms("snake_case — ") == ["snake", "case"]


def test_ranks_give_no_credit_for_ties() -> None:
    scores = np.array([[0.1, 0.9, 0.3], [0.5, 0.5, 0.1], [0.0, 0.0, 0.0]])
    found = ranks(scores, np.array([1, 0, 2]))
    assert found.tolist() == [1, 2, 3]
    assert recall_at_k(found, 1) == pytest.approx(1 / 3)
    assert recall_at_k(found, 2) == pytest.approx(2 / 3)
    assert mean_reciprocal_rank(found) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
