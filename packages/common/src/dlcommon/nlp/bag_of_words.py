"""Texts as counts of words: bag of words, TF-IDF (Spärck Jones 1972), and naive Bayes on counts.

Each function gives what scikit-learn's class of that name gives. Matrices are sparse, since a text holds a few of the
many terms: counts [texts, terms].
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

WORD = re.compile(r"(?u)\b\w\w+\b")
"""Words of two letters or more, as scikit-learn takes them."""


def terms_of(text: str, longest: int = 1) -> list[str]:
    """Lists the words of a text in lower case, then its pairs of neighbors, and so on to `longest` words."""
    words = WORD.findall(text.lower())
    return [" ".join(words[n : n + size]) for size in range(1, longest + 1) for n in range(len(words) - size + 1)]


class CountVectorizer:
    """Counts terms.

    Args:
        longest: most words in a term: 1 counts words, 2 pairs of neighbors as well.
        min_df: fewest training texts that a term is in.
    """

    def __init__(self, longest: int = 1, min_df: int = 1) -> None:
        self.longest, self.min_df = longest, min_df

    def fit(self, texts: Iterable[str]) -> "CountVectorizer":
        """Finds the terms of these texts; columns are in alphabetical order.

        Raises:
            ValueError: no term is in `min_df` of them.
        """
        frequencies = Counter(term for text in texts for term in set(terms_of(text, self.longest)))
        kept = sorted(term for term, count in frequencies.items() if count >= self.min_df)
        if not kept:
            raise ValueError(f"no term is in {self.min_df} of the texts")
        self.columns = {term: column for column, term in enumerate(kept)}
        return self

    def transform(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """Counts the terms of each text, [texts, terms]; terms that were not in the training are left out."""
        rows, columns = [], []
        for row, text in enumerate(texts):
            found = [self.columns[term] for term in terms_of(text, self.longest) if term in self.columns]
            rows += [row] * len(found)
            columns += found
        shape = (len(texts), len(self.columns))
        return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape)  # adds up what occurs twice


class TfidfTransformer:
    """Weighs counts by how rare each term is, and scales each text to length 1."""

    def fit(self, counts: sparse.csr_matrix) -> "TfidfTransformer":
        """Computes idf = ln((1 + n) / (1 + df)) + 1, with df the number of texts that a term is in, [terms]."""
        df = np.bincount(counts.indices, minlength=counts.shape[1])
        self.idf = np.log((1 + counts.shape[0]) / (1 + df)) + 1
        return self

    def transform(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Maps counts [texts, terms] to tf · idf / ‖tf · idf‖; a text without known terms stays 0."""
        weighted = counts @ sparse.diags(self.idf)
        lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        return sparse.csr_matrix(sparse.diags(1 / np.where(lengths > 0, lengths, 1.0)) @ weighted)


class MultinomialNaiveBayes:
    """Classifies counts as if words were drawn independently, given the class (McCallum & Nigam 1998).

    Args:
        alpha: added to the count of each term in each class, so that what was never seen is improbable, not impossible.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        if not alpha > 0:
            raise ValueError(f"alpha must be positive, not {alpha}")
        self.alpha = alpha

    def fit(self, counts: Any, labels: np.ndarray) -> "MultinomialNaiveBayes":
        """Fits counts [texts, terms] and labels [texts] in 0 … num_classes − 1, all of which occur."""
        one_hot = np.eye(int(labels.max()) + 1)[labels]  # [texts, num_classes]
        totals = np.asarray((counts.T @ one_hot).T) + self.alpha  # [num_classes, terms]
        self.log_prior = np.log(one_hot.mean(axis=0))
        self.log_probability = np.log(totals / totals.sum(axis=1, keepdims=True))
        return self

    def joint_log_likelihood(self, counts: Any) -> np.ndarray:
        """Computes log p(class) + Σ count · log p(term | class), [texts, num_classes]: linear in the counts."""
        result: np.ndarray = counts @ self.log_probability.T + self.log_prior
        return result

    def predict(self, counts: Any) -> np.ndarray:
        """Returns the most probable class of each text, [texts]."""
        best: np.ndarray = self.joint_log_likelihood(counts).argmax(axis=1)
        return best
