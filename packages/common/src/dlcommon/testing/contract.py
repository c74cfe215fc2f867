"""The contract that every capstone keeps, driven through its real commands.

A capstone's tests call it in three lines:

    class TestContract(CapstoneContract):
        capstone = CAPSTONE
        flags = ("--data", "mnist-sample", "--preset", "fast", "--epochs", "1")
"""

import dataclasses
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.cli import COMMANDS
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.locate_model import missing_assets, packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.service import AnyService, GeneratingService
from dlcommon.testing import killing
from dlcommon.testing.bad_inputs import BAD_INPUTS, BadInput
from dlcommon.testing.commands import Finished, environment, run, script, two_processes
from dlcommon.testing.example_inputs import agree, write_example
from dlcommon.testing.forked import Forked, run_forked
from dlcommon.testing.hang_ups import check_hang_ups
from dlcommon.testing.raw_http import Target
from dlcommon.testing.server_process import ServerProcess, serving


class CapstoneContract:
    """Subclass it as `Test…` and name the capstone and the flags of its smallest training."""

    capstone: ClassVar[Capstone[Any]]
    flags: ClassVar[tuple[str, ...]]
    cannot_read: ClassVar[str | None] = None
    """Words with which `eval` refuses the flags' data set for the pretrained model, where that cannot read it."""

    @classmethod
    def all_flags(cls) -> tuple[str, ...]:
        """Returns the flags of the training; a training loop then saves a checkpoint after every step."""
        return (*cls.flags, *(("--checkpoint-minutes", "0") if cls.has_loop() else ()))

    @classmethod
    def has_loop(cls) -> bool:
        return issubclass(cls.capstone.config, TrainConfig)

    @classmethod
    def command(cls, name: str, *words: str) -> list[str]:
        return [script(cls.capstone.name), name, *words]

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
        """Trains once, with a checkpoint after every step; returns the folder of runs and what training printed."""
        runs = tmp_path_factory.mktemp("runs")
        command = cls.command("train", *cls.all_flags(), "--json")
        return runs, run(command, environment(runs)).check_success()

    @pytest.fixture(scope="class")
    @classmethod
    def exported(cls, trained: tuple[Path, Finished]) -> tuple[Path, Finished]:
        runs, _ = trained
        return runs, run_forked(cls.command("export", "--no-latency", "--json"), environment(runs)).check_success()

    # -- the command line

    def test_the_search_space_holds_the_recipe(self) -> None:
        if (tuning := self.capstone.tuning) is None:
            pytest.skip("declares no search space")
        defaults = dataclasses.replace(self.capstone.config(), **tuning.settings)
        for option, span in tuning.space.items():
            assert span.contains(getattr(defaults, option)), f"{option}'s default lies outside of what is searched"

    @pytest.mark.parametrize("name", COMMANDS)
    def test_help_names_the_capstone_and_fits_a_screen(self, name: str, tmp_path: Path) -> None:
        done = run([script(name), "--help"], environment(tmp_path, DL_CAPSTONE=self.capstone.name)).check_success()
        assert f"{self.capstone.name} {name}" in done.stdout
        assert len(done.stdout.splitlines()) <= 100

    @pytest.mark.parametrize("name", COMMANDS)
    def test_an_unknown_flag_is_refused(self, name: str, tmp_path: Path) -> None:
        run(self.command(name, "--no-such-flag"), environment(tmp_path)).check_refusal(2, "no-such-flag")

    def test_impossible_values_are_refused(self, tmp_path: Path) -> None:
        env = environment(tmp_path)
        run(self.command("train", "--seed", "-1"), env).check_refusal(2, "seed")
        run(self.command("train", "--seed", "many"), env).check_refusal(2, "seed", "many")
        run(self.command("train", "--preset", "nonesuch"), env).check_refusal(2, "nonesuch")
        run(self.command("train", "--data", "nonesuch"), env).check_refusal(2, "nonesuch")
        if self.has_loop():
            run(self.command("train", "--epochs", "-1"), env).check_refusal(2, "epochs")
            run_forked(self.command("train", "--device", "abacus"), env).check_refusal(2, "abacus")
            too_large = self.command("train", *self.flags, "--batch-size", "1000000000")
            run_forked(too_large, env).check_refusal(2, "batch", "1000000000")
        assert not list(tmp_path.glob("*/*")), "a refused training left a run, which --resume would find"

    def test_nothing_to_resume_is_said(self, tmp_path: Path) -> None:
        run(self.command("train", "--resume"), environment(tmp_path)).check_refusal(1, "no unfinished run")

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        blocked = tmp_path / "a-file"
        blocked.write_text("")
        run_forked(self.command("train", *self.flags), environment(blocked / "runs")).check_refusal(1, "a-file")

    # -- training

    def test_training_leaves_a_whole_run(self, trained: tuple[Path, Finished]) -> None:
        runs, done = trained
        directory = killing.only_run(runs)
        summary = json.loads((directory / "summary.json").read_text())
        assert summary["files"]
        for name in ("config.json", "metrics.jsonl", "curves.png", "summary.json", *summary["files"]):
            assert (directory / name).stat().st_size > 0, name
        result = done.result
        assert set(result) == {"capstone", "data", "split", "n", "metrics", "seconds", "run"}
        assert result["capstone"] == self.capstone.name
        assert result["run"] == str(directory)
        assert summary["test"]["metrics"][self.capstone.headline.name] == result["metrics"][self.capstone.headline.name]
        assert summary["data"]["name"] in directory.name
        if (tuning := self.capstone.tuning) is not None:
            logged = [json.loads(row) for row in (directory / "metrics.jsonl").read_text().splitlines()]
            assert any(tuning.metric.name in row for row in logged), "`tune` would find no figure to choose by"
        first = done.stderr.splitlines()[0]
        assert first.startswith(f"{self.capstone.name} · train · data {result['data']}")

    def test_a_stopped_damaged_and_killed_training_resumes_bit_for_bit(
        self, trained: tuple[Path, Finished], tmp_path: Path
    ) -> None:
        """Stops a training with Ctrl-C (exit code 130), damages its newest checkpoint, and kills it as it resumes."""
        finished, _ = trained
        runs = tmp_path / "runs"
        command = self.command("train", *self.all_flags())
        process = Forked(command, environment(runs))
        assert killing.signal_when(process, lambda: len(killing.checkpoints_below(runs)) >= 2, signal.SIGINT) == 130
        newest = sorted(killing.checkpoints_below(runs))[-1]
        killing.damage(newest)
        kept = {piece for piece in killing.finished_pieces(killing.only_run(runs)) if piece[0] != newest.name}
        hit, printed = killing.resume_with_kills(command, runs, kills=3, seed=os.getpid())
        assert hit >= 1, "training ended before it could be killed; give the contract a longer one"
        assert f"{newest.name} is damaged" in printed
        resumed = killing.only_run(runs)
        if self.capstone.resume == "bit for bit":
            assert killing.fingerprint(resumed) == killing.fingerprint(killing.only_run(finished))
        assert kept <= killing.finished_pieces(resumed), "a finished piece was done again"
        summary = json.loads((resumed / "summary.json").read_text())
        assert "--resume" not in summary["command"], "a resumed run has lost the command that started it"

    def test_two_processes_train_a_model_split_between_them(
        self, trained: tuple[Path, Finished], tmp_path: Path
    ) -> None:
        if not self.has_loop():
            pytest.skip("trains in one process")
        command = self.command("train", *self.flags, "--shard", "--json")
        done = run(two_processes(command), environment(tmp_path)).check_success()
        assert json.loads((killing.only_run(tmp_path) / "summary.json").read_text())["training"]["processes"] == 2
        assert done.result["n"] == trained[1].result["n"]

    # -- evaluation and export

    def test_eval_writes_its_metrics_and_figures(self, trained: tuple[Path, Finished]) -> None:
        runs, training = trained
        done = run_forked(self.command("eval", "--json"), environment(runs)).check_success()
        directory = killing.only_run(runs)
        headline = self.capstone.headline.name
        assert done.result["metrics"][headline] == training.result["metrics"][headline]
        assert json.loads((directory / "eval.json").read_text())["metrics"] == done.result["metrics"]
        assert list(directory.rglob("*.png")), "no figure was drawn"

    def test_eval_works_on_a_fresh_clone(self, tmp_path: Path) -> None:
        data = self.flags[self.flags.index("--data") + 1]
        done = run_forked(self.command("eval", "--data", data, "--json"), environment(tmp_path))
        if self.cannot_read is not None:
            done.check_refusal(1, self.cannot_read)
            return
        packaged = packaged_model(self.capstone)
        if packaged is not None and missing_assets(self.capstone, packaged):
            done.check_refusal(1, "is not on this machine; get it with")
            return
        done.check_success()
        assert 0 <= done.result["metrics"][self.capstone.headline.name] < float("inf")

    def test_export_agrees_with_torch(self, exported: tuple[Path, Finished]) -> None:
        runs, _ = exported
        directory = killing.only_run(runs)
        record = json.loads((directory / "export.json").read_text())
        assert record["parity"]["max_abs_difference"] < 1e-3
        model = OnnxModel(directory / "model.onnx")
        assert model.metadata["capstone"] == self.capstone.name
        assert model.data_name in directory.name
        assert str(self.capstone.folder).encode() not in (directory / "model.onnx").read_bytes()

    # -- serving

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, exported: tuple[Path, Finished]) -> Iterator[ServerProcess]:
        runs, _ = exported
        with serving(cls.command("serve", "--timeout", "3"), environment(runs)) as process:
            yield process

    @pytest.fixture(scope="class")
    @classmethod
    def service(cls, server: ServerProcess) -> AnyService:
        return cls.capstone.service(OnnxModel(cls.exported_model(server)))

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls, server: ServerProcess, service: AnyService) -> Target:
        return Target(server.address, dict(service.example), service.upload)

    @staticmethod
    def exported_model(server: ServerProcess) -> Path:
        return Path(server.ready["model"])

    def test_the_server_answers_its_example_and_says_what_it_is(self, server: ServerProcess, target: Target) -> None:
        reply = target.post_items([target.example, target.example])
        assert reply.status == 200, reply.body[:1000]
        first, second = json.loads(reply.body)["answers"]
        assert first == second
        card = json.loads(target.request("GET", "/v1/model").body)
        assert card["capstone"] == self.capstone.name
        assert b"<html" in target.request("GET", "/").body.lower()

    @pytest.mark.parametrize("bad", BAD_INPUTS, ids=str)
    def test_bad_input_is_refused_with_a_reason(self, bad: BadInput, target: Target) -> None:
        if bad.needs_upload and target.upload is None:
            pytest.skip("this service takes no files")
        bad.check(target)

    def test_what_clients_abandon_stops_and_the_others_are_answered(self, service: AnyService, target: Target) -> None:
        if not isinstance(service, GeneratingService):
            pytest.skip("this service generates nothing piece by piece")
        check_hang_ups(target, service)

    def test_predict_gives_the_servers_answers_and_names_what_is_bad(
        self, server: ServerProcess, service: AnyService, target: Target, tmp_path: Path
    ) -> None:
        words = write_example(service, tmp_path)
        (tmp_path / "items.jsonl").write_text(json.dumps(target.example) + "\n{\n", encoding="utf-8")
        inputs = [words[0], str(tmp_path / "items.jsonl"), *words[1:]]
        options = ["--model", str(self.exported_model(server)), "--out", str(tmp_path / "answers.jsonl"), "--json"]
        # In a process of its own, which lists what it imports.
        env = environment(tmp_path, PYTHONPROFILEIMPORTTIME="1")
        done = run(self.command("predict", *inputs, *options), env)
        done.check_refusal(1, "items.jsonl, line 2: is not JSON")
        assert (done.result["capstone"], done.result["n"], done.result["failed"]) == (self.capstone.name, 2, 1)
        assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE), "predict imports torch"
        lines = (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        answers = [json.loads(line)["answer"] for line in lines]
        (expected,) = json.loads(target.post_items([target.example]).body)["answers"]
        assert all(agree(answer, expected) for answer in answers), (answers, expected)

    def test_a_stop_is_graceful_and_left_no_traceback(self, server: ServerProcess) -> None:
        assert "Traceback" not in server.log_text()
        assert server.stop() == 0

    # -- a full disk

    @pytest.mark.skipif(shutil.which("mount") is None or os.name != "posix", reason="needs mount")
    def test_a_full_disk_is_said_and_loses_nothing(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], dict(os.environ))
        if mounted.code != 0:
            pytest.skip("mounting a small disk needs root")
        try:
            command = self.command("train", *self.all_flags())
            run_forked(command, environment(disk)).check_refusal(1, "disk", "full")
        finally:
            run(["umount", str(disk)], dict(os.environ))
