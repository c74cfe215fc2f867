"""What a command prints: text for people, and with `--json` one object for programs."""

import json
import sys
from typing import Any


class Output:
    """Text goes to stdout; with `--json` it goes to stderr, and the result alone to stdout."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    def say(self, text: str = "") -> None:
        print(text, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def first_line(self, capstone: str, command: str, *facts: str) -> None:
        """Says what runs, on which data and device."""
        self.say(" · ".join((capstone, command, *facts)))

    def result(self, content: dict[str, Any]) -> None:
        """The last thing on stdout under `--json`; text-only otherwise says nothing."""
        if self.as_json:
            print(json.dumps(content, ensure_ascii=False), flush=True)


def warn(text: str) -> None:
    """A warning that is not to be missed, on stderr."""
    line = "!" * 78
    print(f"{line}\n! {text}\n{line}", file=sys.stderr, flush=True)
