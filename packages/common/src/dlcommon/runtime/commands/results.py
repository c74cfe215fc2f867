"""`results`: renders RESULTS.md, and the figures in the READMEs, from the records."""

from dataclasses import dataclass

from dlcommon.runtime.commands.options import parse
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.output import Output
from dlcommon.runtime.results_page import pages
from dlcommon.runtime.run_directory import workspace_root


@dataclass(frozen=True)
class ResultsOptions:
    check: bool = False
    """Only say whether the pages agree with the records; exit code 1 if not."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


def main(argv: list[str]) -> int:
    options = parse(
        ResultsOptions, argv, "results", "Renders RESULTS.md and the READMEs' figures from packages/*/results"
    )

    root = workspace_root()
    if root is None:
        raise UserError("no uv.lock at or above the current directory; run this inside the workspace")
    output = Output(options.json)
    changed = {
        path: text
        for path, text in pages(root).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    if options.check and changed:
        names = " and ".join(path.name for path in changed)
        raise UserError(f"{names} does not agree with the records; type `uv run results`")
    for path, text in changed.items():
        write_bytes(path, text.encode())
        output.say(f"wrote {path}")
    if not changed:
        output.say("the pages agree with the records")
    output.result({"path": str(root / "RESULTS.md"), "changed": [path.name for path in changed]})
    return 0
