"""Two launchers that know of each other by an address only, as on two machines, train one model together.

One process is killed on the way: torchrun starts all of them again, and they continue from the checkpoint, to the very
weights that one launcher of two processes ends with.
"""

import json
import socket
from pathlib import Path

import pytest
import torch
from dlcommon.testing import killing
from dlcommon.testing.commands import environment, run, script, two_processes
from dlcommon.testing.forked import Forked
from safetensors.torch import load_file

FLAGS = (
    "train", "--data", "mnist-sample", "--preset", "fast", "--epochs", "1", "--widths", "8", "16", "16",
    "--kernels", "3", "5", "--dropout", "0", "--checkpoint-minutes", "0", "--device", "cpu", "--precision", "fp32",
)  # fmt: skip
DYING = """
import os, signal, sys
from dlcommon.runtime import cli
from dlcommon.runtime.training_run import TrainingRun

after_step = TrainingRun._after_step

def dying_once(run):
    after_step(run)
    if run.rank == 1 and not run.resumed and run.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)

TrainingRun._after_step = dying_once
sys.exit(cli.guarded(lambda: cli.named("mnist-classifier", sys.argv[1:])))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="torchrun's forks need a POSIX system")
def test_two_nodes_find_each_other_lose_a_process_and_end_as_one_launch_would(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    nodes, one_launch = tmp_path / "nodes", tmp_path / "one-launch"
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=two-nodes"]
    options = ["--nnodes=2", "--nproc-per-node=1", "--max-restarts=3", *rendezvous]
    command = [script("torchrun"), *options, str(tmp_path / "dying.py"), *FLAGS]
    env = environment(nodes, OMP_NUM_THREADS="1", TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    outputs = [str(tmp_path / f"node-{node}") for node in (0, 1)]
    launchers = [Forked(command, env, output, output) for output in outputs]
    try:
        codes = [launcher.wait(600) for launcher in launchers]
    finally:
        for launcher in launchers:
            launcher.kill()
    printed = "\n".join(Path(output).read_text() for output in outputs)
    assert codes == [0, 0], printed[-6000:]
    assert "resumed at step" in printed, printed[-6000:]

    # In one launch, since batch norm normalizes each process's part of a batch on its own.
    run(
        two_processes([script("mnist-classifier"), *FLAGS]), environment(one_launch, OMP_NUM_THREADS="1")
    ).check_success()
    found, expected = killing.only_run(nodes), killing.only_run(one_launch)
    assert json.loads((found / "summary.json").read_text())["training"]["processes"] == 2
    ours, theirs = (load_file(directory / "model.safetensors") for directory in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
