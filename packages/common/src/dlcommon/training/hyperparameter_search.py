"""Searches that ask nothing of the model but its loss: grid, random, successive halving, Hyperband.

A resource is what a training may be given more or less of, such as steps, in units.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from dlcommon.training.search_space import SearchSpace


def grid(values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Lists every combination of the values; names in alphabetical order, the last of them changes fastest."""
    names = sorted(values)
    return [dict(zip(names, chosen, strict=True)) for chosen in product(*(values[name] for name in names))]


def spaced(space: SearchSpace, count: int, offset: float = 0.5) -> dict[str, list[Any]]:
    """Returns `count` evenly spaced values of each span, to make a grid of.

    Args:
        offset: in [0, 1), the place of each value in its own cell of width 1 / count; 0.5 is the middle.
    """
    return {name: [span.at((cell + offset) / count) for cell in range(count)] for name, span in space.items()}


def random_settings(
    space: SearchSpace, count: int, random: np.random.Generator | np.random.RandomState
) -> list[dict[str, Any]]:
    """Draws settings, each value independently of all others (Bergstra & Bengio 2012)."""
    return [{name: space[name].at(random.random()) for name in sorted(space)} for _ in range(count)]


def chance_of_a_good_one(trials: int, share: float) -> float:
    """Computes the probability that at least one of some random trials is among the best `share` of the space."""
    return 1 - (1 - share) ** trials


@dataclass(frozen=True)
class Rung:
    """One round of successive halving."""

    candidates: int
    resource: int
    """Units that each candidate has been trained for at the end of the round."""


def whole_log(value: int, base: int) -> int:
    """Computes ⌊log_base value⌋ without floating-point errors."""
    power = 0
    while base ** (power + 1) <= value:
        power += 1
    return power


def halving_schedule(candidates: int, min_resource: int, max_resource: int, factor: int = 3) -> list[Rung]:
    """Plans the rounds: each keeps one of `factor` candidates, rounded up, and trains it `factor` times as long.

    (Jamieson & Talwalkar 2016; rounded as scikit-learn does.) There are as many rounds as bring the candidates below
    `factor`, or as `max_resource` allows.

    Raises:
        ValueError: the resources do not allow a single round.
    """
    if not 1 <= min_resource <= max_resource:
        raise ValueError(f"need 1 ≤ min_resource ≤ max_resource, not {min_resource} and {max_resource}")
    rungs = [Rung(candidates, min_resource)]
    for _ in range(whole_log(min(candidates, max_resource // min_resource), factor)):
        rungs.append(Rung(math.ceil(rungs[-1].candidates / factor), rungs[-1].resource * factor))
    return rungs


def hyperband_schedule(max_resource: int, factor: int = 3) -> list[list[Rung]]:
    """Plans Hyperband's brackets, from the one that stops most candidates early to plain random search.

    (Li et al. 2018, Algorithm 1.) Bracket s begins with n = ⌈(s_max + 1) / (s + 1) · factorˢ⌉ candidates of
    max_resource / factorˢ units each; round i keeps ⌊n / factorⁱ⌋ of them.
    """
    most = whole_log(max_resource, factor)  # s_max
    brackets = []
    for s in range(most, -1, -1):
        n = math.ceil((most + 1) * factor**s / (s + 1))
        brackets.append([Rung(n // factor**i, max_resource // factor ** (s - i)) for i in range(s + 1)])
    return brackets


def units(schedule: Sequence[Rung]) -> int:
    """Counts the units that a schedule trains if those who stay go on where they were."""
    spent = [0, *(rung.resource for rung in schedule)]
    return sum(rung.candidates * (rung.resource - before) for rung, before in zip(schedule, spent, strict=False))


def successive_halving(schedule: Sequence[Rung], loss: Callable[[int, int], float]) -> list[list[int]]:
    """Trains all candidates a little, the better part of them on, and so forth.

    Args:
        loss: of candidate number c after r units; a value that is not a number counts as the worst.

    Returns:
        The candidates of each round, the best first; the winner is the first of the last round.
    """

    def rank(candidate: int) -> float:
        value = loss(candidate, rung.resource)
        return math.inf if math.isnan(value) else value

    rankings: list[list[int]] = []
    staying = list(range(schedule[0].candidates))
    for rung in schedule:
        staying = sorted(staying[: rung.candidates], key=rank)  # of equals, the earlier one is first
        rankings.append(staying)
    return rankings
