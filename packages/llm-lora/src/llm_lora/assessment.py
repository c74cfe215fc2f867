"""All that is measured of a model beside its perplexity: answers, obedience, preferences, forgetting.

Benchmarks and comparisons call this with torch's network, on any device, before and after fine-tuning.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dlcommon.llm.batched_generation import generate_greedily
from dlcommon.llm.chat_template import Message
from dlcommon.runtime.data.conversations import Conversation

from llm_lora.bases import Base
from llm_lora.batches import PackedBatches
from llm_lora.forgetting import Forgetting, TextLoss, forgetting, text_loss
from llm_lora.instruction_checks import PROMPTS, CheckedPrompt, InstructionScores, score_instructions
from llm_lora.judge import WinRate, mean_rouge, win_rate
from llm_lora.model import AnswerModel
from llm_lora.preferences import PreferenceMargins, preference_margins
from llm_lora.train import encode_unit

LONGEST_ANSWER, LONGEST_CHECKED = 64, 128
"""Tokens of an answer to a held-out instruction, and to a prompt with constraints."""


@dataclass(frozen=True)
class Assessment:
    """Holds what a model did."""

    answers: tuple[str, ...]
    """To the held-out instructions, greedily."""
    references: tuple[str, ...]
    perplexity: float
    """Of the references, per token."""
    rouge_l: float
    rouge_interval: tuple[float, float]
    instructions: InstructionScores
    preferences: PreferenceMargins | None
    """None where no conversation holds a preference."""
    text: TextLoss | None
    """Of text that was not trained on; None without one."""

    def figures(self) -> dict[str, Any]:
        """Returns the figures with their 95 % intervals, as benchmarks write them."""
        found: dict[str, Any] = {
            "perplexity": self.perplexity,
            "rouge_l": self.rouge_l,
            "rouge_l_interval": self.rouge_interval,
        }
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
        answer_perplexity(base, conversations),
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


@torch.inference_mode()
def answer_perplexity(base: Base, conversations: Sequence[Conversation], row_length: int = 1024) -> float:
    """Computes the perplexity of the assistant's turns, per token; conversations longer than a row are left out.

    Raises:
        ValueError: none fits.
    """
    units = [encode_unit(base.tokenizer, one, "sft") for one in conversations]
    batches = PackedBatches([unit for unit in units if len(unit[0].tokens) <= row_length], row_length, 1, 0)
    model = AnswerModel(base.network, len(batches.prefix)).eval()
    device = base.network.model.norm.weight.device
    total, count = 0.0, 0
    for *parts, _ in batches.in_order():
        log_probs = model(*(part.to(device) for part in parts))
        total, count = total - log_probs.double().sum().item(), count + len(log_probs)
    return math.exp(total / count)


def compare_assessments(before: Assessment, after: Assessment) -> tuple[WinRate, Forgetting | None]:
    """Returns how often the second model's answers win against the first's, and what it has forgotten."""
    won = win_rate(after.answers, before.answers, after.references)
    lost = forgetting(before.text, after.text) if before.text and after.text else None
    return won, lost
