"""Files of sentences, translated by `predict`."""

from pathlib import Path

from dlcommon.testing.commands import environment, run, script


def test_lines_keep_their_numbers_and_bad_ones_are_named(tmp_path: Path) -> None:
    source, target = tmp_path / "captions.txt", tmp_path / "captions.de.txt"
    source.write_text("A dog runs.\n\n你好，世界\nTwo men wait. A girl sings.\n", encoding="utf-8")
    command = [script("translator"), "predict", str(source), "--set", "beams=1", "--out", str(target)]
    done = run(command, environment(tmp_path))
    assert done.code == 1
    assert "captions.txt, line 3: this model translates from 'en', and does not know '你', '好'" in done.stderr
    lines = target.read_text(encoding="utf-8").split("\n")
    assert len(lines) == 5
    assert "Hund" in lines[0]
    assert lines[1] == lines[2] == lines[4] == ""
    assert "Männer" in lines[3]
