"""Two processes (gloo, on the CPU) train what one process trains, also when they are interrupted.

Copied: each holds the model (DDP). Sharded: each holds a part of it (FSDP).
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from dlcommon.runtime import checkpoint
from dlcommon.testing.commands import two_processes
from safetensors.torch import load_file

PROGRAM = """
import sys, time
from pathlib import Path
import torch
from torch import nn
from torch.nn import functional as F
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.run import Interrupted
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.muon import Muon
from dlcommon.training.schedules import linear

torch.set_num_threads(1)
class ToyData:
    name = "toy"

directory = Path(sys.argv[1]) if sys.argv[1] else None
pause, shard = float(sys.argv[2]), sys.argv[3] == "sharded"
generator = torch.Generator().manual_seed(1)
X, Y = torch.randn(64, 6, generator=generator), torch.randint(3, (64,), generator=generator)
config = TrainConfig(batch_size=8, epochs=3, device="cpu", precision="fp32", ema_decay=0.5,
                     checkpoint_minutes=0, seed=2, gradient_accumulation_steps=2, max_grad_norm=0.5, shard=shard)
run = TrainingRun.start("toy-capstone", config, ToyData(), directory)
try:
    with run:
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        first, *rest = model.parameters()
        muon, adam = Muon([first], normalize=True), torch.optim.AdamW(rest, lr=0.02)
        model, muon, adam = run.prepare(model, muon, adam)
        held = sum(getattr(p, "to_local", lambda: p)().numel() for p in model.parameters())
        noisy = lambda batch, generator: batch + 0.1 * torch.randn(batch.shape, generator=generator)
        for x, y in run.steps(run.batches(X, Y, transform=noisy)):
            with run.forward(model):
                loss = F.cross_entropy(model(x), y)
            run.update(loss, muon, adam, schedule=linear(0.2))
            time.sleep(pause)
            if run.should_evaluate:
                run.log_evaluation(minimize="loss", loss=loss.item())
        run.finish(model)
except Interrupted as stop:
    sys.exit(stop.exit_code)
(run.directory / f"held-by-{run.rank}-of-{run.world_size}").write_text(str(held))
"""


def words(program: Path, kind: str = "copied", directory: str = "", pause: float = 0.0) -> list[str]:
    return [sys.executable, str(program), directory, str(pause), kind]


def environment(runs: Path) -> dict[str, str]:
    return {**os.environ, "DL_RUNS_DIR": str(runs), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def finish(command: list[str], runs: Path) -> None:
    done = subprocess.run(command, env=environment(runs), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def only_run(runs: Path) -> Path:
    (directory,) = (runs / "toy-capstone").iterdir()
    return directory


def final(runs: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The saved weights, and the last checkpoint's tensors (optimizer, average)."""
    directory = only_run(runs)
    state = checkpoint.list_checkpoints(directory / "checkpoints")[-1] / checkpoint.STATE
    tensors = {name: value for name, value in load_file(state).items() if "random" not in name}
    return load_file(directory / "model.safetensors"), tensors


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "train.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def one(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process."""
    runs = tmp_path_factory.mktemp("one")
    finish(words(program), runs)
    return runs


@pytest.fixture(scope="module", params=["copied", "sharded"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def two(program: Path, kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes that nobody interrupted."""
    runs = tmp_path_factory.mktemp(kind)
    finish(two_processes(words(program, kind)), runs)
    held = [int((only_run(runs) / f"held-by-{rank}-of-2").read_text()) for rank in (0, 1)]
    # Of 83 weights; of three outputs the first process has two.
    assert held == ([83, 83] if kind == "copied" else [46, 37])
    return runs


def test_two_processes_train_what_one_does(one: Path, two: Path) -> None:
    for ours, expected in zip(final(two), final(one), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    logs = [(only_run(runs) / "metrics.jsonl").read_text().count("\n") for runs in (two, one)]
    assert logs == [3, 3], "each evaluation is logged once"


def test_two_terminated_processes_resume_to_the_same_bits(program: Path, kind: str, two: Path, tmp_path: Path) -> None:
    started = psutil.Popen(
        two_processes(words(program, kind, pause=0.05)),
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    workers: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 200
        while len(list(tmp_path.glob("*/*/checkpoints/step-*"))) < 2:
            assert started.poll() is None, "training ended before it could be interrupted"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        workers = started.children(recursive=True)
        started.send_signal(signal.SIGTERM)  # the launcher passes it on
        started.wait(60)
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive
    finally:
        for process in (started, *workers):
            if process.is_running():
                process.kill()
    directory = only_run(tmp_path)
    assert not (directory / "model.safetensors").exists(), "training ended before it was interrupted"
    finish(two_processes(words(program, kind, str(directory))), tmp_path)
    for ours, expected in zip(final(tmp_path), final(two), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)
