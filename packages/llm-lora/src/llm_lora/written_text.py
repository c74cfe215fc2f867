"""Turns tokens into text as they come: whole characters only, and nothing of a stop string."""

from collections.abc import Sequence

from dlcommon.transformer.stop_strings import beginning_of_stop, first_stop

from llm_lora.tokenizer import Tokenizer

_LONGEST_CHARACTER = 4
"""Bytes of the longest character in UTF-8: as many tokens may be a part of one."""


class WrittenText:
    """Holds back what may still become another character, or a stop string."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._tokens: list[int] = []
        """Those that end within a character."""
        self._held = ""
        self.stopped = False
        """Whether a stop string has ended the text."""

    def add(self, token: int) -> str:
        """Returns what a token adds that can be shown."""
        self._tokens.append(token)
        text = self._tokenizer.decode(self._tokens)
        if text.endswith("\N{REPLACEMENT CHARACTER}") and len(self._tokens) < _LONGEST_CHARACTER:
            return ""
        self._tokens = []
        return self._shown(text)

    def end(self) -> str:
        """Returns what was held back, once no more tokens come."""
        rest = self._tokenizer.decode(self._tokens) if self._tokens else ""
        self._tokens = []
        shown = self._shown(rest)
        held, self._held = self._held, ""
        return shown + held

    def _shown(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        if (at := first_stop(self._held, self._stops)) is not None:
            shown, self._held, self.stopped = self._held[:at], "", True
            return shown
        ready = len(self._held) - beginning_of_stop(self._held, self._stops)
        shown, self._held = self._held[:ready], self._held[ready:]
        return shown
