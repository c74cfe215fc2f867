"""A conversation with two models side by side: its turns, and how they are shown."""

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from llm_lora.service import Reply

Side = Literal["left", "right"]

CSS = """
.chat { min-height: 16rem; max-height: 32rem; overflow-y: auto; display: flex; flex-direction: column; gap: .6rem;
  padding: .75rem; border-radius: .5rem; border: 1px solid var(--border-color-primary);
  background: var(--background-fill-secondary); line-height: 1.5; }
.chat .turn { padding: .5rem .75rem; border-radius: .6rem; max-width: 92%; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.chat .user { align-self: flex-end; background: var(--primary-500); color: white; }
.chat .model { align-self: flex-start; background: var(--background-fill-primary);
  border: 1px solid var(--border-color-primary); color: var(--body-text-color); }
.chat .model span { text-decoration: underline rgb(220 38 38 / var(--doubt)); text-decoration-thickness: 2px;
  text-underline-offset: 3px; }
.chat .model span:hover { background: #fde68a; color: #78350f; }
.chat .note { font-size: .8rem; color: var(--body-text-color-subdued); }
"""


class Token(TypedDict):
    """A piece of an answer, with what else might have stood there."""

    text: str
    told: str
    doubt: float
    """From 0, the model was sure, to 1."""


class Turn(TypedDict):
    """A question and the answers of both models so far."""

    question: str
    left: list[Token]
    right: list[Token]
    notes: dict[str, str]
    """Below each side's answer: why it ended, and how quickly it was written."""


def new_turn(question: str) -> Turn:
    return Turn(question=question, left=[], right=[], notes={})


def token_of(piece: "Reply") -> Token:
    """Returns what a piece adds to an answer."""
    told, doubt = "", 0.0
    if piece.logprobs:
        drawn = piece.logprobs[-1]
        told = "  ".join(f"{shown(one.token)} {100 * math.exp(one.logprob):.0f}%" for one in drawn.top)
        doubt = 1 - math.exp(drawn.logprob)
    return Token(text=piece.text, told=told, doubt=round(doubt, 3))


def shown(token: str) -> str:
    """Replaces a token that a tooltip cannot show, such as white space."""
    return {"": "…", "\n": "↵"}.get(token, token.replace("\n", "↵").replace(" ", "␣"))


def messages(turns: Sequence[Turn], side: Side) -> list[dict[str, str]]:
    """Returns the conversation of one side as the service takes it: all questions, and this model's own answers."""
    found: list[dict[str, str]] = []
    for turn in turns:
        found.append({"role": "user", "content": turn["question"]})
        if answer := "".join(token["text"] for token in turn[side]):
            found.append({"role": "assistant", "content": answer})
    return found


def rendered(turns: Sequence[Turn], side: Side) -> str:
    """Renders one side as HTML; hovering over a token shows the distribution that it was drawn from."""
    parts = []
    for turn in turns:
        parts.append(f'<div class="turn user">{html.escape(turn["question"])}</div>')
        spans = [
            f'<span title="{html.escape(token["told"])}" style="--doubt:{token["doubt"]}">'
            f"{html.escape(token['text'])}</span>"
            for token in turn[side]
            if token["text"]
        ]
        if spans:
            parts.append(f'<div class="turn model">{"".join(spans)}</div>')
        if note := turn["notes"].get(side):
            parts.append(f'<div class="note">{html.escape(note)}</div>')
    return f'<div class="chat" role="log" aria-live="polite">{"".join(parts)}</div>'
