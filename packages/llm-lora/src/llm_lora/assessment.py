"""All that is measured of a model beside its perplexity: answers, obedience, preferences, forgetting.

Benchmarks and comparisons call this with torch's network, on any device, before and after fine-tuning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dlcommon.llm.batched_generation import generate_greedily
from dlcommon.llm.chat_template import Message
from dlcommon.runtime.data.conversations import Conversation

from llm_lora.bases import Base
from llm_lora.forgetting import Forgetting, TextLoss, forgetting, text_loss
from llm_lora.instruction_checks import PROMPTS, CheckedPrompt, InstructionScores, score_instructions
from llm_lora.judge import WinRate, mean_rouge, win_rate
from llm_lora.preferences import PreferenceMargins, preference_margins

LONGEST_ANSWER, LONGEST_CHECKED = 64, 128
"""Tokens of an answer to a held-out instruction, and to a prompt with constraints."""


@dataclass(frozen=True)
class Assessment:
    """Holds what a model did."""

    answers: tuple[str, ...]
    """To the held-out instructions, greedily."""
    references: tuple[str, ...]
    rouge_l: float
    rouge_interval: tuple[float, float]
    instructions: InstructionScores
    preferences: PreferenceMargins | None
    """None where no conversation holds a preference."""
    text: TextLoss | None
    """Of text that was not trained on; None without one."""

    def figures(self) -> dict[str, Any]:
        """Returns the figures with their 95 % intervals, as benchmarks write them."""
        found: dict[str, Any] = {"rouge_l": self.rouge_l, "rouge_l_interval": self.rouge_interval}
        for name, value in self.instructions.metrics.items():
            found |= {name: value, f"{name}_interval": self.instructions.intervals[name]}
        if self.preferences is not None:
            found |= {
                "preference_accuracy": self.preferences.accuracy,
                "preference_accuracy_interval": self.preferences.accuracy_interval,
                "preference_margin": self.preferences.mean,
                "preference_margin_interval": self.preferences.mean_interval,
            }
        if self.text is not None:
            found |= {"text_perplexity": self.text.perplexity, "text_bits_per_byte": self.text.bits_per_byte}
        return found


def assess(
    base: Base,
    conversations: Sequence[Conversation],
    text: str | None = None,
    *,
    prompts: Sequence[CheckedPrompt] = PROMPTS,
    max_text_tokens: int = 16_384,
    batch_size: int = 16,
    progress: Callable[[str, int], object] | None = None,
) -> Assessment:
    """Lets a model answer, and measures it.

    Args:
        base: the network, with adapters or without, in evaluation mode, and its tokenizer.
        conversations: held out from training; their last answers are the references.
        text: plain text that was not trained on, to measure forgetting.
        prompts: with constraints that a program checks.
        max_text_tokens: how much of the text is read.
        batch_size: answers that are written at a time.
        progress: is told what is done, and how many of it.

    Raises:
        ValueError: a question is longer than the model's context.
    """
    answers = write_answers(base, [one.prompt for one in conversations], LONGEST_ANSWER, batch_size, progress)
    checked = write_answers(
        base, [(Message("user", one.text),) for one in prompts], LONGEST_CHECKED, batch_size, progress
    )
    references = [one.messages[-1].content for one in conversations]
    rouge, interval = mean_rouge(answers, references)
    preferring = [one for one in conversations if one.preference is not None]
    return Assessment(
        tuple(answers),
        tuple(references),
        rouge,
        interval,
        score_instructions(checked, prompts),
        preference_margins(base, preferring) if preferring else None,
        text_loss(base, text, max_tokens=max_text_tokens) if text else None,
    )


def write_answers(
    base: Base,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int,
    batch_size: int = 16,
    progress: Callable[[str, int], object] | None = None,
) -> list[str]:
    """Answers the last message of each conversation greedily."""
    encoded = [base.tokenizer.encode_chat(one, add_generation_prompt=True)[0] for one in prompts]
    written = generate_greedily(
        base.network,
        encoded,
        max_new_tokens=max_new_tokens,
        stop={base.tokenizer.end},
        batch_size=batch_size,
        progress=None if progress is None else lambda count: progress("answers", count),
    )
    return [base.tokenizer.decode(tokens).strip() for tokens in written]


def compare_assessments(before: Assessment, after: Assessment) -> tuple[WinRate, Forgetting | None]:
    """Returns how often the second model's answers win against the first's, and what it has forgotten."""
    won = win_rate(after.answers, before.answers, after.references)
    lost = forgetting(before.text, after.text) if before.text and after.text else None
    return won, lost
