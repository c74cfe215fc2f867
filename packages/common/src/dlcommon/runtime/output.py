"""What a command prints: text for people, and with `--json` one object for programs."""

import json
import sys
from typing import Any


class Output:
    """Prints text to stdout; with `--json`, text to stderr and only the result to stdout."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    def say(self, text: str = "") -> None:
        print(text, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def first_line(self, capstone: str, command: str, *facts: str) -> None:
        """Says what runs, on which data and device."""
        self.say(" · ".join((capstone, command, *facts)))

    def result(self, content: dict[str, Any]) -> None:
        """Prints the result as JSON on stdout under `--json`; otherwise prints nothing."""
        if self.as_json:
            print(json.dumps(content, ensure_ascii=False), flush=True)


def warn(text: str) -> None:
    """Prints a warning on stderr, framed so that it is not missed."""
    line = "!" * 78
    print(f"{line}\n! {text}\n{line}", file=sys.stderr, flush=True)
