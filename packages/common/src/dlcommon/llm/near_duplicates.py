"""Near-duplicates among many documents, by MinHash and locality-sensitive hashing (Broder 1997; Lee et al. 2022).

Comparing all pairs of n documents takes n² comparisons of sets. A signature of a few dozen integers estimates the
similarity of two sets, and documents whose signatures agree in some band become candidates without being compared.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

PRIME = 2**31 - 1  # products of two numbers below it fit 64 bits
Signatures = NDArray[np.uint64]


def shingles(text: str, size: int = 5) -> set[str]:
    """Returns the runs of `size` consecutive words, in lower case and without punctuation.

    A shorter text is one shingle, an empty one has none.
    """
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[start : start + size]) for start in range(max(1, len(words) - size + 1))} - {""}


def jaccard(first: AbstractSet[str], second: AbstractSet[str]) -> float:
    """Computes the share of two sets' elements that are in both; 1 for two empty sets."""
    union = len(first | second)
    return len(first & second) / union if union else 1.0


class MinHash:
    """Maps sets to signatures whose share of equal entries estimates the sets' Jaccard similarity.

    Each entry is the least value of one random hash function over the set's elements. The least over the union of two
    sets is equally likely to be any element's, and both signatures agree where it is an element of both. So an entry
    agrees with the probability J, and the estimate's standard error is sqrt(J (1 - J) / num_hashes).
    """

    def __init__(self, num_hashes: int = 128, seed: int = 0) -> None:
        draws = np.random.default_rng(seed)
        self._slopes = draws.integers(1, PRIME, num_hashes, dtype=np.uint64)
        self._shifts = draws.integers(0, PRIME, num_hashes, dtype=np.uint64)

    def signature(self, elements: AbstractSet[str]) -> Signatures:
        """Computes the signature of a set, uint64 [num_hashes]; that of an empty set is PRIME throughout."""
        hashes = [int.from_bytes(hashlib.blake2b(each.encode(), digest_size=8).digest()) for each in elements]
        values = np.array([value % PRIME for value in hashes], dtype=np.uint64)
        # [elements, num_hashes]; h(x) = (a x + b) mod p differs from hash to hash in a and b.
        hashed = (values[:, None] * self._slopes + self._shifts) % np.uint64(PRIME)
        least: Signatures = hashed.min(axis=0, initial=PRIME)
        return least


def estimated_jaccard(first: Signatures, second: Signatures) -> float:
    """Computes the share of equal entries of two signatures."""
    return float((first == second).mean())


def candidate_pairs(signatures: Signatures, bands: int) -> set[tuple[int, int]]:
    """Finds the pairs of documents whose signatures agree in at least one band.

    Args:
        signatures: [documents, num_hashes].
        bands: into which the entries are divided; num_hashes / bands entries must agree at once.

    Returns:
        Pairs of document numbers, the smaller first.

    Raises:
        ValueError: the bands do not divide the entries.
    """
    if signatures.shape[1] % bands:
        raise ValueError(f"{signatures.shape[1]} hashes cannot be divided into {bands} equal bands")
    pairs = set()
    for band in np.split(signatures, bands, axis=1):  # [documents, num_hashes / bands]
        buckets = defaultdict(list)
        for number, entries in enumerate(band):
            buckets[entries.tobytes()].append(number)
        for members in buckets.values():
            pairs |= {(first, second) for place, first in enumerate(members) for second in members[place + 1 :]}
    return pairs


def candidate_probability(similarity: float, bands: int, rows: int) -> float:
    """Computes how probably two documents of a Jaccard similarity become candidates: 1 - (1 - J^rows)^bands."""
    return float(1 - (1 - similarity**rows) ** bands)


def without_near_duplicates(
    texts: Sequence[str], threshold: float = 0.8, bands: int = 16, hasher: MinHash | None = None
) -> list[int]:
    """Keeps the first document of each group of near-duplicates.

    Documents are near-duplicates if they are candidates and their estimated similarity is at least `threshold`; chains
    of near-duplicates form one group.

    Returns:
        The numbers of the documents that are kept, ascending.
    """
    hasher = hasher or MinHash()
    signatures = np.stack([hasher.signature(shingles(text)) for text in texts])
    parent = list(range(len(texts)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]  # shortens the path for the next search
            number = parent[number]
        return number

    for first, second in candidate_pairs(signatures, bands):
        if estimated_jaccard(signatures[first], signatures[second]) >= threshold:
            low, high = sorted((root(first), root(second)))
            parent[high] = low
    return [number for number in range(len(texts)) if root(number) == number]
