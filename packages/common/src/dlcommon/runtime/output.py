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
            text = json.dumps(content, ensure_ascii=False)
            try:
                text.encode(sys.stdout.encoding or "utf-8")
            except UnicodeEncodeError:  # the terminal's encoding lacks something; JSON can say it in ASCII
                text = json.dumps(content)
            print(text, flush=True)


def warn(text: str) -> None:
    """Prints a warning on stderr, framed so that it is not missed."""
    line = "!" * 78
    print(f"{line}\n! {text}\n{line}", file=sys.stderr, flush=True)
