"""Interrupting a training process and comparing what comes out with one that nobody interrupted."""

import hashlib
import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from dlcommon.runtime import checkpoint
from dlcommon.runtime.pieces import MANIFEST
from dlcommon.runtime.run_directory import METRICS, SUMMARY
from dlcommon.testing.commands import environment
from dlcommon.testing.forked import Forked, run_forked


def fingerprint(run_directory: Path) -> dict[str, str]:
    """Hashes (sha256) the model's files, the last checkpoint, all pieces, and the log without its clock."""
    files = json.loads((run_directory / SUMMARY).read_text())["files"]
    log = (run_directory / METRICS).read_text().splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log]
    contents = {name: (run_directory / name).read_bytes() for name in files}
    contents["metrics"] = json.dumps(rows).encode()
    last = checkpoint.list_checkpoints(run_directory / "checkpoints")[-1:]
    for folder in last:
        contents["step"] = folder.name.encode()
        contents["checkpoint weights"] = (folder / checkpoint.MODEL).read_bytes()
        contents["optimizer, average and random state"] = (folder / checkpoint.STATE).read_bytes()
    for piece in run_directory.glob("checkpoints/piece-*"):
        stored = json.loads((piece / MANIFEST if piece.is_dir() else piece).read_text())
        contents[piece.name] = json.dumps(stored["files"] if piece.is_dir() else stored["value"]).encode()
    assert last or len(contents) > len(files) + 1, "the run kept neither a checkpoint nor a piece"
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def finished_pieces(run_directory: Path) -> set[tuple[str, str]]:
    """Returns name and checksum of each of the run's finished pieces of work."""
    pieces = run_directory.glob("checkpoints/piece-*")
    files = ((piece.name, piece / MANIFEST if piece.is_dir() else piece) for piece in pieces)
    return {(name, hashlib.sha256(file.read_bytes()).hexdigest()) for name, file in files}


def only_run(runs: Path) -> Path:
    """Returns the only run directory below a `DL_RUNS_DIR`.

    Raises:
        AssertionError: there is none, or there are several.
    """
    found = [path for path in runs.glob("*/*") if path.is_dir()]
    assert len(found) == 1, f"expected one run, found {found}"
    return found[0]


def checkpoints_below(runs: Path) -> list[Path]:
    """Lists the checkpoints of training loops, and the finished pieces of other work."""
    return [*runs.glob("*/*/checkpoints/step-*"), *runs.glob("*/*/checkpoints/piece-*")]


def writing_checkpoint(runs: Path) -> bool:
    """Tells whether a checkpoint or a piece is being written at this moment."""
    return any(runs.glob("*/*/checkpoints/.step-*")) or any(runs.glob("*/*/checkpoints/.piece-*"))


def damage(saved: Path) -> None:
    """Cuts off the end of a checkpoint's weights, or of a piece or one of its files."""
    file = max(saved.iterdir(), key=lambda path: path.stat().st_size) if saved.is_dir() else saved
    file.write_bytes(file.read_bytes()[:-100])


def signal_when(process: Forked, ready: Callable[[], bool], number: signal.Signals, timeout: float = 600) -> int:
    """Signals the process as soon as `ready()`, and waits for its exit code."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return process.wait()
        if ready():
            process.send_signal(number)
            return process.wait(timeout=600)
        time.sleep(0.002)
    process.kill()
    process.wait()
    raise TimeoutError("the moment to signal the process never came")


def resume_with_kills(command: list[str], runs: Path, kills: int, seed: int) -> tuple[int, str]:
    """Goes on with the unfinished training in `runs`, through `kills` SIGKILLs: at random moments, and every second
    time while a checkpoint is written.

    Returns:
        How many of the kills hit a running process, and all that the processes printed.
    """
    moment = random.Random(seed)
    env = environment(runs)
    hit, printed = 0, ""
    for number in range(kills):
        before = {path.name for path in checkpoints_below(runs)}
        output = runs.with_name(f"printed-{number}")
        process = Forked([*command, "--resume"], env, str(output))
        wait = moment.uniform(0.0, 0.6)
        first_step: list[float] = []

        def ready(
            before: set[str] = before, wait: float = wait, first: list[float] = first_step, n: int = number
        ) -> bool:
            if not first and {path.name for path in checkpoints_below(runs)} - before:
                first.append(time.monotonic())
            if not first or time.monotonic() - first[0] < wait:
                return False
            return n % 2 == 0 or writing_checkpoint(runs)

        code = signal_when(process, ready, signal.SIGKILL)
        printed += output.read_text(encoding="utf-8")
        if code == 0:
            return hit, printed
        assert code == -signal.SIGKILL, f"training failed with exit code {code}"
        hit += 1
    return hit, printed + run_forked([*command, "--resume"], env).check_success().stdout
