"""The git revision that a result was made with."""

import subprocess
from pathlib import Path
from typing import Any

OUTPUTS = (
    ":(exclude,glob,top)packages/*/results/**",
    ":(exclude,glob,top)packages/*/pretrained/**",
    ":(exclude,top)RESULTS.md",
)


def git_revision() -> dict[str, Any] | None:
    """Returns the commit and whether tracked files differ from it; None outside a git checkout of this project.

    Records and exported models of earlier runs do not count as changes: the record of one seed must not make the next
    seed's code look modified.
    """
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/", *OUTPUTS],
            cwd=folder, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changed)}
