"""A text far smaller than the recipe's is trained on for long enough to learn something."""

import math
from pathlib import Path

from dlcommon.testing.commands import environment, script
from dlcommon.testing.forked import run_forked

SENTENCES = ("the cat sat on the mat. ", "a dog ran after the cat! ", "who let the dog out? ", "nobody saw the mat. ")


def test_a_short_text_is_passed_over_until_something_is_learnt(tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("".join(SENTENCES[(7 * n * n + n) % 4] for n in range(400))[:9000])
    small = ["--layers", "1", "--dim", "32", "--heads", "2", "--context-lengths", "16", "32", "--stages", "0.5"]
    command = [script("char-lm"), "train", "--text", str(text), "--preset", "fast", *small, "--json"]
    done = run_forked(command, environment(tmp_path / "runs")).check_success()
    assert "planned: 400 steps (--min-steps, since 1 epoch of so small a data set would be only 15)" in done.stderr
    guessing = math.log2(len(set(text.read_text())))
    assert done.result["metrics"]["bits_per_character"] < 0.5 * guessing
