"""ReAct: a model writes a thought and an action, reads what the action brought, and goes on until it answers.

Yao et al. 2022, https://arxiv.org/abs/2210.03629, section 2. Here a turn of the model is one line: `call: {…}`, a call
in JSON, or `answer: …`; a thought may stand before either on lines of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from dlcommon.llm.tools import Toolbox, ToolCall, ToolError, parse_tool_call

CALL, ANSWER, OBSERVATION = "call: ", "answer: ", "observation: "
Outcome = Literal["answered", "step limit", "repeated call"]


@dataclass(frozen=True)
class Step:
    """Holds one turn: what the model wrote, which call that was, and what came back."""

    written: str
    call: ToolCall | None
    observation: str
    failed: bool
    """Whether the observation is an error."""


@dataclass
class Trajectory:
    """Holds all that happened for one question."""

    question: str
    steps: list[Step] = field(default_factory=list)
    answer: str | None = None
    outcome: Outcome = "step limit"

    def transcript(self) -> str:
        """Returns the text that the model reads before its next turn."""
        lines = [self.question]
        for step in self.steps:
            lines += [step.written, OBSERVATION + step.observation]
        return "\n".join(lines) + "\n"

    def calls(self) -> list[ToolCall]:
        """Returns the calls that were carried out."""
        return [step.call for step in self.steps if step.call is not None and not step.failed]


def run_agent(
    model: Callable[[str], str], toolbox: Toolbox, question: str, *, max_steps: int = 6, max_repeats: int = 2
) -> Trajectory:
    """Lets a model act until it answers.

    Errors of a call are observations: the model reads them and may do better. Two limits end what would not end by
    itself.

    Args:
        model: writes the next turn, given the transcript.
        toolbox: carries out the calls.
        question: the user's.
        max_steps: turns before the agent is stopped.
        max_repeats: how often the same call may be made before the agent is stopped.
    """
    trajectory = Trajectory(question)
    made: list[ToolCall] = []
    for _ in range(max_steps):
        written = model(trajectory.transcript()).strip()
        action = written.rsplit("\n", 1)[-1]
        if action.startswith(ANSWER):
            trajectory.answer, trajectory.outcome = action.removeprefix(ANSWER), "answered"
            return trajectory
        call, failed = None, False
        try:
            if not action.startswith(CALL):
                raise ToolError(f"write {CALL.strip()} or {ANSWER.strip()} in the last line")
            call = parse_tool_call(action.removeprefix(CALL))
            observation = toolbox.call(call)
        except ToolError as error:
            observation, failed = f"error: {error}", True
        # One line, so that a result cannot pass for a turn of the model's.
        trajectory.steps.append(Step(written, call, " ".join(observation.split()), failed))
        if call is not None:
            made.append(call)
            if made.count(call) > max_repeats:
                trajectory.outcome = "repeated call"
                return trajectory
    return trajectory
