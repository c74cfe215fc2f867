"""The peak of memory counts what was held, also when it has been freed, from the reset on."""

import mmap

import pytest
import torch
from dlcommon.llm.process_memory import peak_mib, reset_peak

CPU = torch.device("cpu")
MEBIBYTE = 2**20


def test_the_peak_counts_what_was_freed_until_it_is_reset() -> None:
    if not reset_peak(CPU):
        pytest.skip("this system cannot reset the peak")
    before = peak_mib(CPU)
    # Mapped anew: what an allocator keeps from earlier tests is resident already, and would not be counted again.
    with mmap.mmap(-1, 64 * MEBIBYTE) as held:
        for _ in range(64):
            held.write(b"\1" * MEBIBYTE)
    raised = peak_mib(CPU)
    assert raised > before + 50
    reset_peak(CPU)
    assert peak_mib(CPU) <= raised
