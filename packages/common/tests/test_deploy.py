"""The recipes for clusters: their engines' validators accept them, and torchrun and our commands take their options."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

FOLDER = Path(__file__).parents[3] / "deploy"
RECIPES = sorted(path for path in FOLDER.glob("*/*") if path.suffix in (".yaml", ".sbatch"))
CAPSTONES = {path.name for path in (FOLDER.parent / "packages").iterdir()}


def validator(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: uv sync --group deploy")
    return found


def words(path: Path, program: str) -> list[str]:
    """Returns the words that a recipe gives a program, with something of the kind for each variable."""
    _, _, command = path.read_text(encoding="utf-8").partition(f"uv run --no-sync {program} ".rstrip())
    assert command, f"{path} does not call {program}"
    if path.parent.name == "kubernetes":  # a folded block, up to the next key
        command = command.split("\n          env:")[0]
    else:  # lines that go on after a backslash
        command = re.split(r"(?<!\\)\n", command)[0].replace("\\\n", " ")
    plain = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command)
    kinds = {"CAPSTONE": "char-lm", "capstone": "char-lm", "OPTIONS": "", "@": ""}
    numbers = dict.fromkeys(("SLURM_JOB_NUM_NODES", "SKYPILOT_NUM_NODES", "SKYPILOT_NUM_GPUS_PER_NODE"), "2")
    found = shlex.split(re.sub(r"\$(\w+|@)", lambda name: {**kinds, **numbers}.get(name[1], "name"), plain))
    return [word for word in found if word]


@pytest.mark.parametrize("path", [path for path in RECIPES if path.stem == "train"], ids=lambda path: path.parent.name)
def test_torchrun_takes_the_options_of_each_recipe(path: Path) -> None:
    options = get_args_parser().parse_args(words(path, "torchrun"))
    assert (options.nnodes, options.rdzv_backend, options.no_python) == ("2", "c10d", True)
    assert options.rdzv_endpoint.endswith(":29500")
    assert options.rdzv_id != "none", "without a name, a training that is started again does not find its run"
    assert options.max_restarts == 3
    assert options.training_script in CAPSTONES
    assert options.training_script_args[0] == "train"
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [path for path in RECIPES if path.stem == "tune"], ids=lambda path: path.parent.name)
def test_each_tune_recipe_shares_a_database(path: Path) -> None:
    driver, capstone, command, *options = words(path, "--with")
    assert driver == "psycopg[binary]"
    assert capstone in CAPSTONES
    assert command == "tune"
    assert options[options.index("--storage") + 1] == "name"


@pytest.mark.parametrize("path", [p for p in RECIPES if p.parent.name == "kubernetes"], ids=lambda path: path.name)
def test_kubernetes_schemas_accept_it(path: Path, tmp_path: Path) -> None:
    command = [validator("kubernetes-validate"), "--strict"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Strictly: what the schema does not know is refused.
    (tmp_path / "wrong.yaml").write_text(path.read_text().replace("restartPolicy:", "restartsPolicy:"))
    assert subprocess.run([*command, str(tmp_path / "wrong.yaml")], capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("path", [p for p in RECIPES if p.suffix == ".sbatch"], ids=lambda path: path.name)
def test_shellcheck_accepts_it_and_its_usage_is_said(path: Path) -> None:
    done = subprocess.run(["bash", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: sbatch deploy/slurm/{path.name} CAPSTONE")
    done = subprocess.run([validator("shellcheck"), str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_each_engine_has_both_recipes() -> None:
    for engine in ("kubernetes", "skypilot", "slurm"):
        assert [path.stem for path in RECIPES if path.parent.name == engine] == ["train", "tune"]
