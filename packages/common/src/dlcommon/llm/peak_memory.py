"""Peak memory of a computation on the CPU, from torch's own record of each allocation."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile


def peak_bytes(action: Callable[[], object]) -> int:
    """Measures how much more memory tensors take at most during an action than before it.

    What torch's allocator hands out is counted, exactly and repeatably; memory of Python itself and of libraries that
    allocate on their own is not.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler writes to stderr that it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        action_result = action()  # held until the recording ends, so that it counts
    del action_result
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak
