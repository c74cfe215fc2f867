"""Scores of translations: BLEU as sacreBLEU and as papers report it, chrF, and what their averages hide."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacremoses import MosesTokenizer

RESAMPLES = 1000
CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Chinese characters and Japanese syllables, each of which counts as a word, since no spaces say where words end."""
WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+")
TOKENIZATION = {"zh": "zh", "ja": "char"}
"""How sacreBLEU cuts languages without spaces; all others by 13a."""
FREQUENCIES = ((0, 0), (1, 2), (3, 9), (10, 99), (100, 999), (1000, None))
"""Ranges of how often a word occurs in the training text."""


@dataclass(frozen=True)
class NgramCounts:
    """Holds what BLEU is computed from, for each sentence: sums of rows are those of a corpus."""

    matching: np.ndarray
    """int64 [sentences, 4]: n-grams of the hypothesis that its reference holds, n from 1 to 4."""
    total: np.ndarray
    """int64 [sentences, 4]: n-grams of the hypothesis."""
    lengths: np.ndarray
    """int64 [sentences, 2]: tokens of hypothesis and reference."""

    def bleu(self, rows: np.ndarray | slice = slice(None)) -> float:
        """Computes the BLEU of these sentences, from 0 to 100 (Papineni et al. 2002)."""
        hypothesis, reference = self.lengths[rows].sum(axis=0).tolist()
        matching, total = self.matching[rows].sum(axis=0).tolist(), self.total[rows].sum(axis=0).tolist()
        score: float = BLEU.compute_bleu(matching, total, hypothesis, reference, smooth_method="exp").score
        return score


def tokenization(language: str) -> str:
    """Returns sacreBLEU's tokenization for a language such as `zh` or `zh-CN`."""
    return TOKENIZATION.get(re.split("[-_]", language.lower())[0], "13a")


def ngram_counts(hypotheses: Sequence[str], references: Sequence[str], language: str) -> NgramCounts:
    """Counts with sacreBLEU's own tokenization, case as it is."""
    metric = BLEU(effective_order=True, tokenize=tokenization(language))
    scores = [
        metric.sentence_score(hypothesis, [reference])
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    return NgramCounts(
        np.array([score.counts for score in scores]),
        np.array([score.totals for score in scores]),
        np.array([(score.sys_len, score.ref_len) for score in scores]),
    )


def bootstrap_interval(counts: NgramCounts) -> tuple[float, float]:
    """Computes the 95 % interval of BLEU over sentences drawn with replacement (Koehn 2004)."""
    random, sentences = np.random.default_rng(0), len(counts.lengths)
    values = [counts.bleu(random.integers(0, sentences, sentences)) for _ in range(RESAMPLES)]
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def sacrebleu_score(hypotheses: Sequence[str], references: Sequence[str], language: str) -> tuple[float, str]:
    """Computes sacreBLEU and its signature, which says how (Post 2018, https://aclanthology.org/W18-6319)."""
    metric = BLEU(tokenize=tokenization(language))
    return metric.corpus_score(list(hypotheses), [list(references)]).score, str(metric.get_signature())


def chrf_score(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Computes chrF2, the F-score of character n-grams (Popović 2015), from 0 to 100."""
    score: float = CHRF().corpus_score(list(hypotheses), [list(references)]).score
    return score


@cache
def _moses(language: str) -> MosesTokenizer:
    return MosesTokenizer(lang=language)


def tokenized_bleu(hypotheses: Sequence[str], references: Sequence[str], language: str) -> float:
    """Computes BLEU over Moses tokens in lower case, as most papers on Multi30k report it.

    It is higher than sacreBLEU, and comparable only among those who tokenize alike. Languages without spaces are cut
    as for sacreBLEU.
    """
    if tokenization(language) != "13a":
        metric = BLEU(tokenize=tokenization(language), lowercase=True)
        lower: float = metric.corpus_score(list(hypotheses), [list(references)]).score
        return lower
    tokenize = _moses(language).tokenize
    cut = [[tokenize(text.lower(), return_str=True) for text in texts] for texts in (hypotheses, references)]
    score: float = BLEU(tokenize="none", force=True).corpus_score(cut[0], [cut[1]]).score
    return score


def words(text: str) -> list[str]:
    """Returns the words of a text in lower case."""
    return WORD.findall(text.lower())


def count_words(text: str) -> int:
    """Counts what stands between spaces, and each character of a language without them."""
    return len(re.sub(f"([{CJK}])", r" \1 ", text).split())


def by_length(counts: NgramCounts, source_words: Sequence[int]) -> list[dict[str, str | int | float]]:
    """Computes BLEU for sources of up to 8, 12, 16 and 20 words, and longer ones."""
    lengths, low = np.asarray(source_words), 0
    rows: list[dict[str, str | int | float]] = []
    for high in (8, 12, 16, 20, math.inf):
        chosen = np.flatnonzero((lengths > low) & (lengths <= high))
        if len(chosen):
            label = f"{low + 1} to {high}" if high < math.inf else f"more than {low}"
            rows.append({"words of the source": label, "sentences": len(chosen), "BLEU": counts.bleu(chosen)})
        low = int(high) if high < math.inf else low
    return rows


def by_frequency(
    hypotheses: Sequence[str], references: Sequence[str], training: Sequence[str]
) -> list[dict[str, str | int | float]]:
    """Computes how many words of the references the translations hold, by how often training saw them.

    The F-score of precision and recall over words, as compare-mt reports it (Neubig et al. 2019).
    """
    seen = Counter(word for sentence in training for word in words(sentence))
    wanted, written, shared = Counter[int](), Counter[int](), Counter[int]()

    def bucket(word: str) -> int:
        return next(
            i for i, (low, high) in enumerate(FREQUENCIES) if low <= seen[word] and (high is None or seen[word] <= high)
        )

    for hypothesis, reference in zip(hypotheses, references, strict=True):
        left, right = Counter(words(hypothesis)), Counter(words(reference))
        for counter, total in ((left, written), (right, wanted), (left & right, shared)):
            for word, count in counter.items():
                total[bucket(word)] += count
    rows: list[dict[str, str | int | float]] = []
    for number, (low, high) in enumerate(FREQUENCIES):
        if wanted[number]:
            label = "never" if high == 0 else f"{low} to {high}" if high else f"{low} or more"
            f_score = 2 * shared[number] / (wanted[number] + written[number])
            rows.append({"times in training": label, "words of the references": wanted[number], "F-score": f_score})
    return rows


def copied(source: str, hypothesis: str) -> float:
    """Computes the share of the translation's words of three letters or more that stand in the source as well."""
    own, given = [word for word in words(hypothesis) if len(word) > 2], set(words(source))
    return sum(word in given for word in own) / len(own) if own else 0.0


def repeats(text: str) -> bool:
    """Tells whether a phrase of two to four words follows itself, or a word three times."""
    found = words(text)
    for size, times in ((1, 3), (2, 2), (3, 2), (4, 2)):
        for start in range(len(found) - size * times + 1):
            phrase = found[start : start + size]
            if all(found[start + size * i : start + size * (i + 1)] == phrase for i in range(times)):
                return True
    return False
