"""`results`: renders RESULTS.md from the records."""

from dataclasses import dataclass

from dlcommon.runtime.commands.options import parse
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.output import Output


@dataclass(frozen=True)
class ResultsOptions:
    check: bool = False
    """Only say whether RESULTS.md agrees with the records; exit code 1 if not."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


def main(argv: list[str]) -> int:
    options = parse(ResultsOptions, argv, "results", "Renders RESULTS.md from packages/*/results/*.json")

    from dlcommon.runtime.results_page import render
    from dlcommon.runtime.run_directory import workspace_root

    root = workspace_root()
    if root is None:
        raise UserError("no uv.lock at or above the current directory; run this inside the workspace")
    path, output = root / "RESULTS.md", Output(options.json)
    text = render(root)
    current = path.read_text(encoding="utf-8") if path.is_file() else None
    if options.check:
        if current != text:
            raise UserError("RESULTS.md does not agree with the records; type `uv run results`")
        output.say("RESULTS.md agrees with the records")
    else:
        write_bytes(path, text.encode())
        output.say(f"wrote {path}")
    output.result({"path": str(path), "changed": current != text})
    return 0
