"""Chinese reviews: the preset `chinese` against logistic regression on TF-IDF of one to three characters.

    uv run --package sentiment-bert python packages/sentiment-bert/benchmarks/chinese.py --runs runs/sentiment-bert/…

The peer's regularization is chosen by cross-validation on the training reviews. Of the runs, finished trainings of the
preset, the accuracy on the test reviews is read.
"""

import argparse
from pathlib import Path
from typing import Any

from dlcommon.runtime import data
from dlcommon.runtime.data.chinese_reviews import DATA_SET
from dlcommon.runtime.data.text_classification import TextClassification
from dlcommon.runtime.files import read_json, write_json
from dlcommon.runtime.hardware import describe
from dlcommon.runtime.run_directory import SUMMARY
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline


def peer(text: TextClassification) -> dict[str, Any]:
    """Returns the peer's accuracy on the test reviews, and the strength that was chosen."""
    classifier = LogisticRegressionCV(Cs=(0.3, 1.0, 3.0, 10.0), cv=5, max_iter=2000)
    model = make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True), classifier)
    model.fit(text.train.texts, text.train.labels)
    return {"accuracy": model.score(text.test.texts, text.test.labels), "strength": float(classifier.C_[0])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    text = data.resolve(DATA_SET.name, (DATA_SET.name,)).load()
    found = {
        "preset chinese": [read_json(run / SUMMARY)["test"]["metrics"]["accuracy"] for run in options.runs],
        "TF-IDF of characters": peer(text),
        "reviews": {"train": len(text.train.texts), "test": len(text.test.texts)},
        "hardware": describe(),
    }
    write_json(options.out, found)
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
