"""The states of the global random generators, stored and put back."""

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 — libraries draw from the global generator
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Returns the states of Python's, NumPy's and torch's global random generators, CUDA's included."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    states = {
        "python": random.getstate(),
        "numpy": [str(name), torch.from_numpy(np.array(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_state(states: dict[str, Any]) -> None:
    """Restores the states that `random_state` returned."""
    random.setstate(states["python"])
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
