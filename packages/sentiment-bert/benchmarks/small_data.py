"""Accuracy with few labelled sentences: fine-tuning against a frozen encoder and against words alone.

    uv run --package sentiment-bert python packages/sentiment-bert/benchmarks/small_data.py --seeds 3

For 100, 500, 2,000 and all training sentences of SST-2, drawn with equal classes, on its 872 development sentences:

- fine-tuned: `sentiment-bert train --train-size N`, with the default recipe
- frozen: logistic regression on the mean of the pretrained encoder's token features
- words: logistic regression on TF-IDF of words and pairs of words

The peers' regularization is chosen by cross-validation on the training sentences; all see the same sentences.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from dlcommon.runtime import data
from dlcommon.runtime.data import require_asset
from dlcommon.runtime.data.text_classification import LabelledText
from dlcommon.runtime.hardware import describe
from dlcommon.transformer.bert import mean_pool
from dlcommon.transformer.bert_weights import load_pretrained
from sentiment_bert.model import PRETRAINED
from sentiment_bert.tokenizer import Tokenizer
from sentiment_bert.train import LONGEST, choose, encode
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline

SIZES = (100, 500, 2000, None)
STRENGTHS = np.logspace(-2, 3, 8)


def logistic_regression() -> LogisticRegressionCV:
    return LogisticRegressionCV(Cs=STRENGTHS, cv=5, max_iter=2000)


@torch.inference_mode()
def features(text: LabelledText) -> np.ndarray:
    """Returns the mean of the frozen encoder's features of each text, float32 [texts, dim]."""
    folder = require_asset(PRETRAINED).path
    bert, tokenizer = load_pretrained(folder), Tokenizer.from_pretrained(folder)
    texts = encode(tokenizer, text.texts, text.labels, LONGEST)
    order = np.argsort([len(row) for row in texts.rows], kind="stable")
    found = np.zeros((len(order), bert.config.dim), np.float32)
    for start in range(0, len(order), 64):
        chosen = order[start : start + 64]
        ids, _ = texts.collate(chosen)
        mask = ids != tokenizer.pad
        found[chosen] = mean_pool(bert(ids, mask), mask).numpy()
    return found


def fine_tuned(size: int | None, seed: int, flags: list[str]) -> float:
    """Trains with the capstone's own command and returns the accuracy on the development sentences."""
    with tempfile.TemporaryDirectory() as runs:
        script = Path(sys.executable).with_name("sentiment-bert")
        command = [
            str(script),
            "train",
            "--data",
            "sst2",
            "--encoder",
            "pretrained",
            "--seed",
            str(seed),
            "--json",
            *flags,
        ]
        command += ["--train-size", str(size)] if size else []
        done = subprocess.run(
            command, env={**os.environ, "DL_RUNS_DIR": runs}, check=True, stdout=subprocess.PIPE, text=True
        )
        return float(json.loads(done.stdout)["metrics"]["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--skip-fine-tuning", action="store_true", help="only the peers, which take a minute")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options, flags = parser.parse_known_args()
    sst = data.resolve("sst2", ("sst2",)).load()
    labels = np.array(sst.test.labels)
    train_features, test_features = features(sst.train), features(sst.test)
    place = {text: number for number, text in enumerate(sst.train.texts)}
    rows = []
    for size in SIZES:
        found: dict[str, list[float]] = {"fine-tuned": [], "frozen": [], "words": []}
        for seed in range(options.seeds):
            chosen = choose(sst.train, size, seed)
            numbers = [place[text] for text in chosen.texts]
            head = logistic_regression().fit(train_features[numbers], chosen.labels)
            found["frozen"].append(head.score(test_features, labels))
            words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), logistic_regression())
            found["words"].append(words.fit(chosen.texts, chosen.labels).score(sst.test.texts, labels))
            if not options.skip_fine_tuning:
                found["fine-tuned"].append(fine_tuned(size, seed, flags))
        rows.append(
            {
                "sentences": size or len(sst.train.texts),
                **{name: round(statistics.mean(values), 4) for name, values in found.items() if values},
                "seeds": options.seeds,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    result = {"rows": rows, "hardware": describe()}
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
