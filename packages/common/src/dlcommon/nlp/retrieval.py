"""Finding passages for a question: BM25 over words or character n-grams, and recall at k.

BM25: Robertson & Zaragoza 2009, https://doi.org/10.1561/1500000019, equation 3.15, with Lucene's inverse document
frequency, which is never negative.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff"
_TERM = re.compile(rf"[{_CHINESE}]+|[^\W_{_CHINESE}]+")


def search_terms(text: str, sizes: Sequence[int] = (2,)) -> list[str]:
    """Splits a text into the terms that it is found by, in lower case.

    Words are terms. Chinese does not mark words, so that a run of Chinese characters gives its overlapping n-grams, for
    each n of `sizes`; a run that is shorter than n is a term by itself.
    """
    terms: list[str] = []
    for run in _TERM.findall(text.lower()):
        if not re.match(rf"[{_CHINESE}]", run):
            terms.append(run)
            continue
        for size in sizes:
            terms += [run[at : at + size] for at in range(max(1, len(run) - size + 1))]
    return terms


class BM25:
    """Scores documents by the terms that they share with a query.

    Args:
        documents: the terms of each document.
        k1: how soon a term that occurs again adds nothing; 0 counts presence only.
        b: how much a long document has to make up for its length, from 0, not at all, to 1.

    Raises:
        ValueError: there are no documents, or a parameter is out of range.
    """

    def __init__(self, documents: Sequence[Sequence[str]], *, k1: float = 1.5, b: float = 0.75) -> None:
        if not documents:
            raise ValueError("BM25 needs at least one document")
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"k1 must be at least 0 and b from 0 to 1, not {k1} and {b}")
        self.k1, self.b = k1, b
        lengths = np.array([len(document) for document in documents], dtype=np.float64)
        # k1 (1 - b + b length / mean length), [documents]
        self.saturation = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-12))
        self.postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        """The inverted index: for each term, the documents that have it, and how often."""
        for number, document in enumerate(documents):
            for term, count in Counter(document).items():
                self.postings[term].append((number, count))

    def idf(self, term: str) -> float:
        """Returns ln(1 + (N - n + 1/2) / (n + 1/2)) for a term that n of N documents have."""
        total, having = len(self.saturation), len(self.postings.get(term, ()))
        return float(np.log1p((total - having + 0.5) / (having + 0.5)))

    def scores(self, query: Sequence[str]) -> np.ndarray:
        """Returns a score for each document, [documents]; 0 for those that have no term of the query."""
        scores = np.zeros(len(self.saturation))
        for term in query:
            if term in self.postings:
                numbers, counts = np.array(self.postings[term]).T
                scores[numbers] += self.idf(term) * counts / (counts + self.saturation[numbers])
        return scores


def ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Returns where the relevant document of each query comes in the order of the scores, from 1; int64 [queries].

    Documents with the same score come before it, so that a method that scores all alike gets no credit.

    Args:
        scores: [queries, documents].
        relevant: the number of the relevant document, int64 [queries].
    """
    own = np.take_along_axis(scores, relevant[:, None], axis=1)  # [queries, 1]
    ahead: np.ndarray = np.sum(scores >= own, axis=1)
    return ahead


def recall_at_k(ranks: np.ndarray, k: int) -> float:
    """Returns the share of queries whose relevant document is among the first k."""
    return float((ranks <= k).mean())


def mean_reciprocal_rank(ranks: np.ndarray) -> float:
    """Returns the mean of 1 / rank, 1 if all are first."""
    return float((1 / ranks).mean())
