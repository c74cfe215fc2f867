"""The unigram language model over subwords, the tokenizer of T5, XLNet and ALBERT (Kudo 2018, arXiv 1804.10959).

Each piece has a probability; a segmentation's probability is the product of its pieces'. Where BPE grows a vocabulary
by merging, this one starts too large and drops the pieces that the likelihood misses least.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

UNKNOWN_PENALTY = 10.0
"""How much less probable than the rarest piece an unknown character is, in nats, as in SentencePiece."""


class Unigram:
    """Cuts words into pieces, the most probable way or one drawn at random.

    Args:
        log_probabilities: of each piece, in nats.

    Raises:
        ValueError: there is no piece.
    """

    def __init__(self, log_probabilities: Mapping[str, float]) -> None:
        if not log_probabilities:
            raise ValueError("a unigram model needs at least one piece")
        self.log_probabilities = dict(log_probabilities)
        self.longest = max(map(len, self.log_probabilities))
        self._unknown = min(self.log_probabilities.values()) - UNKNOWN_PENALTY

    def _ends(self, word: str, start: int) -> list[tuple[int, float]]:
        """Returns where the pieces that begin at `start` end, and their log-probabilities.

        A character that is no piece counts as an unknown one.
        """
        found = [
            (end, self.log_probabilities[word[start:end]])
            for end in range(start + 1, min(start + self.longest, len(word)) + 1)
            if word[start:end] in self.log_probabilities
        ]
        return found if found and found[0][0] == start + 1 else [(start + 1, self._unknown), *found]

    def encode(self, word: str) -> list[str]:
        """Returns the most probable segmentation, by Viterbi's algorithm: time linear in the length of the word."""
        best = [0.0, *[-math.inf] * len(word)]  # log-probability of the best segmentation up to each place
        begins = [0] * (len(word) + 1)  # where its last piece begins
        for start in range(len(word)):
            for end, score in self._ends(word, start):
                if best[start] + score > best[end]:
                    best[end], begins[end] = best[start] + score, start
        pieces, end = [], len(word)
        while end > 0:
            pieces.append(word[begins[end] : end])
            end = begins[end]
        return pieces[::-1]

    def expected_counts(self, word: str) -> tuple[float, dict[str, float]]:
        """Computes the word's log-likelihood, over all segmentations, and how often each piece is expected in it.

        The forward and backward sums are those of a hidden Markov model.
        """
        size = len(word)
        forward = self._forward(word)
        backward = [*[-math.inf] * size, 0.0]  # log-probability of all segmentations from each place on
        counts: defaultdict[str, float] = defaultdict(float)
        for start in reversed(range(size)):
            for end, score in self._ends(word, start):
                backward[start] = _log_add(backward[start], score + backward[end])
                counts[word[start:end]] += math.exp(forward[start] + score + backward[end] - forward[size])
        return forward[size], dict(counts)

    def _forward(self, word: str) -> list[float]:
        """Computes the log-probability of all segmentations up to each place: len(word) + 1 numbers."""
        forward = [0.0, *[-math.inf] * len(word)]
        for start in range(len(word)):
            for end, score in self._ends(word, start):
                forward[end] = _log_add(forward[end], forward[start] + score)
        return forward

    def sample(self, word: str, generator: random.Random, temperature: float = 1.0) -> list[str]:
        """Draws a segmentation by its probability: subword regularization, for training.

        Args:
            word: any string.
            generator: draws the numbers.
            temperature: above 1, unlikely segmentations come more often (1 / α of the paper's section 3.1).
        """
        tempered = Unigram({piece: score / temperature for piece, score in self.log_probabilities.items()})
        forward = tempered._forward(word)
        into: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
        for start in range(len(word)):
            for end, score in tempered._ends(word, start):
                into[end].append((start, forward[start] + score))
        pieces, end = [], len(word)
        while end > 0:  # from the end, since the sums are of what comes before
            starts, scores = zip(*into[end], strict=True)
            (start,) = generator.choices(starts, [math.exp(score - forward[end]) for score in scores])
            pieces.append(word[start:end])
            end = start
        return pieces[::-1]

    def refine(self, word_counts: Mapping[str, int]) -> tuple["Unigram", float]:
        """Takes one step of expectation maximization; returns the better model, and this one's log-likelihood.

        A piece's new probability is its share of all expected pieces. Pieces that are not expected at all are dropped,
        single characters excepted.
        """
        total_likelihood, totals = 0.0, dict.fromkeys((p for p in self.log_probabilities if len(p) == 1), 1e-9)
        for word, count in word_counts.items():
            likelihood, counts = self.expected_counts(word)
            total_likelihood += count * likelihood
            for piece, expected in counts.items():
                totals[piece] = totals.get(piece, 0.0) + count * expected
        everything = math.log(sum(totals.values()))
        return Unigram({piece: math.log(n) - everything for piece, n in totals.items() if n > 0}), total_likelihood

    def prune(self, keep: int) -> "Unigram":
        """Keeps single characters and, up to `keep` pieces, those whose loss would cost the most likelihood.

        A piece's cost is its probability times how much less probable its best other segmentation is (section 3.2).
        """
        costs = {}
        for piece, score in self.log_probabilities.items():
            if len(piece) > 1:
                others = self._without(piece).encode(piece)
                other_score = sum(self.log_probabilities.get(part, self._unknown) for part in others)
                costs[piece] = math.exp(score) * (score - other_score)
        characters = [piece for piece in self.log_probabilities if len(piece) == 1]
        kept = sorted(costs, key=lambda piece: -costs[piece])[: max(keep - len(characters), 0)]
        return Unigram({piece: self.log_probabilities[piece] for piece in (*characters, *kept)})

    def _without(self, piece: str) -> "Unigram":
        inside = {
            piece[start:end] for start in range(len(piece)) for end in range(start + 1, len(piece) + 1)
        } & self.log_probabilities.keys() - {piece}
        smaller = Unigram({part: self.log_probabilities[part] for part in inside} or {"": 0.0})
        smaller._unknown = self._unknown
        return smaller

    @classmethod
    def train(
        cls,
        word_counts: Mapping[str, int],
        vocab_size: int,
        *,
        seed_factor: int = 4,
        longest: int = 8,
        shrink: float = 0.75,
        steps: int = 2,
    ) -> "Unigram":
        """Learns pieces and probabilities: from many frequent substrings, prunes and refines down to `vocab_size`.

        Args:
            word_counts: how often each word occurs.
            vocab_size: number of pieces at the end; all single characters are among them.
            seed_factor: how many times as many substrings it starts from.
            longest: characters of the longest piece.
            shrink: share of the pieces that is kept each round.
            steps: of expectation maximization in each round.

        Raises:
            ValueError: the characters alone are more than `vocab_size`.
        """
        substrings: Counter[str] = Counter()
        for word, count in word_counts.items():
            for start in range(len(word)):
                for end in range(start + 1, min(start + longest, len(word)) + 1):
                    substrings[word[start:end]] += count
        characters = {piece: count for piece, count in substrings.items() if len(piece) == 1}
        if len(characters) > vocab_size:
            raise ValueError(f"vocab_size {vocab_size} is less than the {len(characters)} characters")
        # Long substrings save more pieces each time they occur.
        longer = sorted(
            (p for p, n in substrings.items() if len(p) > 1 and n > 1), key=lambda p: (-substrings[p] * len(p), p)
        )
        seed = [*characters, *longer[: seed_factor * vocab_size]]
        everything = math.log(sum(substrings[piece] for piece in seed))
        model = cls({piece: math.log(substrings[piece]) - everything for piece in seed})
        while True:
            for _ in range(steps):
                model, _ = model.refine(word_counts)
            if len(model.log_probabilities) <= vocab_size:
                return model
            model = model.prune(max(int(shrink * len(model.log_probabilities)), vocab_size))


def _log_add(a: float, b: float) -> float:
    """Computes log(eᵃ + eᵇ) without overflow."""
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))


def all_segmentations(word: str) -> list[Sequence[str]]:
    """Lists all 2^(n − 1) ways to cut a word of n characters, to check by brute force what Viterbi and EM compute."""
    if not word:
        return [()]
    return [(word[:end], *rest) for end in range(1, len(word) + 1) for rest in all_segmentations(word[end:])]
