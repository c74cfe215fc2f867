"""Imports ultralytics in a test without what its import does to a process and a home folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch


@contextmanager
def ultralytics_settings(folder: Path) -> Iterator[None]:
    """Keeps ultralytics offline and its settings in `folder`.

    Afterwards undoes what its import changes: variables, print options, `torch.save`.
    """
    settings = {
        "YOLO_CONFIG_DIR": str(folder),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "false",
    }
    with patch.dict(os.environ, settings), patch.object(torch, "save", torch.save), np.printoptions():
        try:
            yield
        finally:
            torch.set_printoptions(profile="default")
