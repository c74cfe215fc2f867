"""What checkpoints of a training loop hold."""

from pathlib import Path

import pytest
from dlcommon.runtime import checkpoint
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.training_state import TrainingState


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {}, {"counters": {"step": 1}, "seconds": 1.0})
    with pytest.raises(UserError, match="another version of this training"):
        TrainingState().restore(tmp_path, print)
    checkpoint.save(tmp_path, 2, {}, {"counters": {}, "facts": {}, "stateful": {"SGD-0": {}}, "random": {}})
    with pytest.raises(UserError, match="another version of this training"):
        TrainingState().restore(tmp_path, print)
