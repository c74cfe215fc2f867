"""Pipeline parallelism: each process holds some of the layers, and micro-batches flow through them.

GPipe (Huang et al. 2019) sends all micro-batches forward and then all back. 1F1B (Narayanan et al. 2019) goes back as
soon as it can, which takes the same time, but keeps fewer micro-batches' activations.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import distributed, nn

Task = tuple[str, int]
"""`("forward", m)` or `("backward", m)` of micro-batch m."""


def gpipe(stages: int, stage: int, micro_batches: int) -> list[Task]:
    """Returns a stage's tasks in order: all forward, then all backward."""
    every = range(micro_batches)
    return [("forward", m) for m in every] + [("backward", m) for m in every]


def one_forward_one_backward(stages: int, stage: int, micro_batches: int) -> list[Task]:
    """Returns a stage's tasks in order: forward until the first gradient can have come, then one of each in turn."""
    ahead = min(stages - stage - 1, micro_batches)  # those that are on their way through the later stages
    tasks: list[Task] = [("forward", m) for m in range(ahead)]
    for m in range(micro_batches):
        if ahead + m < micro_batches:
            tasks.append(("forward", ahead + m))
        tasks.append(("backward", m))
    return tasks


def bubble_fraction(stages: int, micro_batches: int) -> float:
    """Returns the share of the time in which a stage waits: (p − 1) / (m + p − 1)."""
    return (stages - 1) / (micro_batches + stages - 1)


def timeline(
    schedules: Sequence[Sequence[Task]], forward: float = 1.0, backward: float = 2.0
) -> list[dict[Task, tuple[float, float]]]:
    """Computes when each stage begins and ends each task, if messages take no time.

    Args:
        schedules: each stage's tasks in order.
        forward: what one micro-batch takes in one stage; so `backward`.

    Raises:
        ValueError: the schedules wait for each other.
    """
    times: list[dict[Task, tuple[float, float]]] = [{} for _ in schedules]
    last = len(schedules) - 1
    progress = True
    while progress:
        progress = False
        for stage, tasks in enumerate(schedules):
            while len(times[stage]) < len(tasks):
                task = kind, m = tasks[len(times[stage])]
                takes = forward if kind == "forward" else backward
                # A task needs the neighbor's result; the last stage turns around by itself.
                neighbor = stage - 1 if kind == "forward" else stage + 1
                if neighbor > last:
                    needed = times[stage].get(("forward", m))
                else:
                    needed = (0.0, 0.0) if neighbor < 0 else times[neighbor].get(task)
                if needed is None:
                    break
                begins = max([needed[1], *(end for _, end in times[stage].values())])
                times[stage][task] = (begins, begins + takes)
                progress = True
    if any(len(done) < len(tasks) for done, tasks in zip(times, schedules, strict=True)):
        raise ValueError("the schedules of the stages wait for each other")
    return times


def run_pipeline(
    module: nn.Module,
    tasks: Sequence[Task],
    inputs: Sequence[torch.Tensor],
    loss: Callable[[torch.Tensor, int], torch.Tensor],
    boundary: Sequence[int],
) -> tuple[float, int]:
    """Runs this process's stage for one batch, and leaves the gradients of the whole batch's mean loss in `module`.

    Args:
        module: the layers of this stage.
        tasks: what this stage does, in order.
        inputs: the micro-batches, of equal sizes; only the first stage reads them.
        loss: computes the mean loss of micro-batch m from the last stage's output; called there only.
        boundary: shape of a micro-batch between two stages, [samples, ...].

    Returns:
        The mean loss, 0 on all stages but the last, and the largest number of micro-batches whose activations were
        kept at once.
    """
    stage, stages = distributed.get_rank(), distributed.get_world_size()
    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    sent: list[tuple[Any, torch.Tensor]] = []  # tensors stay alive until they have arrived
    total, most = 0.0, 0

    def send(tensor: torch.Tensor, to: int) -> None:
        sent.append((distributed.isend(tensor, to), tensor))  # without waiting: the neighbor may be sending as well

    for kind, m in tasks:
        if kind == "forward":
            x = inputs[m]
            if stage > 0:
                x = torch.empty(tuple(boundary))
                distributed.recv(x, stage - 1)
                x.requires_grad_()
            y = module(x)
            if stage == stages - 1:
                y = loss(y, m) / len(inputs)
                total += y.item()
            else:
                send(y.detach(), stage + 1)
            kept[m] = (x, y)
            most = max(most, len(kept))
        else:
            x, y = kept.pop(m)
            gradient = None
            if stage < stages - 1:
                gradient = torch.empty(tuple(boundary))
                distributed.recv(gradient, stage + 1)
            y.backward(gradient)
            if stage > 0:
                assert x.grad is not None
                send(x.grad, stage - 1)
    for request, _ in sent:
        request.wait()
    return total, most
