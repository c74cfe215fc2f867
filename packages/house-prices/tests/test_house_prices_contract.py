import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
from dlcommon.testing.commands import Finished, environment
from dlcommon.testing.contract import CapstoneContract
from dlcommon.testing.forked import run_forked
from house_prices.capstone import CAPSTONE
from safetensors.numpy import load_file, save_file


class TestContract(CapstoneContract):
    capstone = CAPSTONE
    flags: ClassVar = (
        "--data", "ames", "--repeats", "1", "--folds", "2", "--trees", "40", "--tree-rate", "0.3", "--epochs", "2",
        "--members", "1",
    )  # fmt: skip

    def test_what_another_version_trained_is_refused(self, trained: tuple[Path, Finished], tmp_path: Path) -> None:
        runs, _ = trained
        shutil.copytree(runs / CAPSTONE.name, tmp_path / CAPSTONE.name)
        (learnt,) = tmp_path.glob("*/*/model.safetensors")
        arrays = load_file(learnt)
        command, env = self.command("eval", "--run", str(learnt.parent)), environment(tmp_path)
        save_file({**arrays, "boosting/bias": arrays["boosting/bias"] + np.float32(0.5)}, learnt)
        run_forked(command, env).check_refusal(1, "other prices than the trained one; train again")
        arrays.pop("support vectors/relevance")
        save_file(arrays, learnt)
        run_forked(command, env).check_refusal(1, "another version of house-prices; train again")
