"""The peak of memory counts what was held, also when it has been freed, from the reset on."""

import pytest
import torch
from dlcommon.llm.process_memory import peak_mib, reset_peak

CPU = torch.device("cpu")


def test_the_peak_counts_what_was_freed_until_it_is_reset() -> None:
    if not reset_peak(CPU):
        pytest.skip("this system cannot reset the peak")
    before = peak_mib(CPU)
    held = torch.ones(64 * 2**18)  # 64 MiB, touched
    assert held.sum() > 0
    del held
    raised = peak_mib(CPU)
    assert raised > before + 50
    reset_peak(CPU)
    assert peak_mib(CPU) <= raised
