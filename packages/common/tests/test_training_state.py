"""What checkpoints of a training loop hold."""

from pathlib import Path
from typing import Any

import pytest
from dlcommon.runtime import checkpoint
from dlcommon.runtime.errors import UserError
from dlcommon.testing.toy_training import start, train

pytestmark = pytest.mark.usefixtures("fresh_runs")


@pytest.mark.parametrize(
    ("weights", "state"),
    [({}, {"counters": {"step": 1}, "seconds": 1.0}), ({}, {"counters": {}, "stateful": {"SGD-0": {}}, "random": {}})],
)
def test_a_checkpoint_of_another_version_is_refused(weights: dict[str, Any], state: dict[str, Any]) -> None:
    run = start()
    folder: Path = run.directory / "checkpoints"
    checkpoint.save(folder, 1, weights, state)
    with pytest.raises(UserError, match="another version of this training"):
        train(start(run.directory))
