"""Data, tensor and pipeline parallelism, the ring and ZeRO: equal to one process and to torch's own, on gloo processes.

The functions that processes run are sent by value, since they cannot import this module.
"""

import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest
import torch
from dlcommon.training.collectives import all_reduce_sum
from dlcommon.training.communication_cost import (
    LinkCost,
    fit_link_cost,
    make_buckets,
    overlapped_seconds,
    scaling_efficiency,
)
from dlcommon.training.data_parallel import GradientReducer, weighted_mean_gradients
from dlcommon.training.pipeline_parallel import (
    bubble_fraction,
    gpipe,
    one_forward_one_backward,
    run_pipeline,
    timeline,
)
from dlcommon.training.processes import run_processes
from dlcommon.training.ring_all_reduce import count_sent, ring_all_reduce
from dlcommon.training.sync_batch_norm import SyncBatchNorm
from dlcommon.training.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from dlcommon.training.zero import Memory, ZeroOptimizer, held_memory, memory_per_process
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 4))


X, Y = drawn(12, 6), drawn(12, 4, seed=1)


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def whole_gradients(model: nn.Module | None = None) -> list[torch.Tensor]:
    model = network() if model is None else model
    F.mse_loss(model(X), Y).backward()
    return gradients(model)


def close(ours: Any, expected: Any, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


# -- processes


def test_a_process_that_fails_is_named_with_its_traceback_and_the_others_end() -> None:
    def fail() -> None:
        if distributed.get_rank() == 1:
            raise KeyError("no such shard")
        distributed.barrier()

    def unwritten() -> None:
        raise NotImplementedError("write this")

    with pytest.raises(RuntimeError, match=r"(?s)rank 1 of 2 failed: KeyError: 'no such shard'.*line \d+, in fail"):
        run_processes(fail)
    with pytest.raises(NotImplementedError, match="write this"):
        run_processes(unwritten)


def test_a_process_that_is_killed_or_never_ends_is_named() -> None:
    def end_or_wait(kill: bool) -> None:
        import os
        import signal

        if kill and distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.recv(torch.empty(1), 0 if distributed.get_rank() else 1)  # which nobody sends

    with pytest.raises(RuntimeError, match=r"rank 1 of 2 failed: it was killed|rank 0 of 2 failed"):
        run_processes(end_or_wait, True)
    with pytest.raises(TimeoutError, match="were not done after 1 seconds"):
        run_processes(end_or_wait, False, timeout=1)


# -- the ring


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_the_ring_sums_as_torch_does_and_sends_what_the_formula_says(world_size: int) -> None:
    def reduce() -> list[tuple[torch.Tensor, torch.Tensor, int, int]]:
        found = []
        for shape in ((3, 8), (5,), (2,), (1,)):  # a size that n does not divide, and chunks of nothing
            ours = drawn(*shape, seed=distributed.get_rank())
            expected = ours.clone()
            distributed.all_reduce(expected)
            with count_sent() as sent:
                ring_all_reduce(ours)
            found.append((ours, expected, sent.messages, sent.bytes))
        return found

    results = run_processes(reduce, world_size=world_size)
    for of_rank in results:
        for ours, expected, messages, _ in of_rank:
            close(ours, expected)
            assert messages == 2 * (world_size - 1)
    for (ours, _, _, _), *others in zip(*results, strict=True):
        assert all(torch.equal(ours, other[0]) for other in others), "all processes must hold the same bits"
    total = sum(of_rank[0][3] for of_rank in results)
    assert total == 2 * (world_size - 1) * 24 * 4  # of all together: 2(n − 1)/n of the size for each of n


# -- data parallelism


def test_weighted_gradients_of_unequal_parts_are_those_of_the_whole_batch() -> None:
    parts = []
    for part in (slice(0, 7), slice(7, 9), slice(9, 12)):
        model = network()
        F.mse_loss(model(X[part]), Y[part]).backward()
        parts.append(gradients(model))
    close(list(weighted_mean_gradients(parts, (7, 2, 3))), whole_gradients())
    plain = [torch.stack(each).mean(dim=0) for each in zip(*parts, strict=True)]
    assert not torch.allclose(plain[0], whole_gradients()[0], atol=1e-4)


def own_loss(model: nn.Module) -> torch.Tensor:
    rank, size = distributed.get_rank(), len(X) // distributed.get_world_size()
    part = slice(rank * size, (rank + 1) * size)
    return F.mse_loss(model(X[part]), Y[part])


def test_reduced_gradients_equal_ddps_and_one_processs() -> None:
    def train() -> tuple[list[list[torch.Tensor]], list[torch.Tensor], list[int]]:
        reference = DistributedDataParallel(network())
        own_loss(reference).backward()
        found, buckets = [], []
        for limit in (1, 300, 25 * 2**20):
            model = network()
            if distributed.get_rank() == 1:
                nn.init.zeros_(next(model.parameters()))  # the first process's weights count
            reducer = GradientReducer(model, limit)
            for _ in range(2):  # buckets are filled anew
                model.zero_grad()
                own_loss(model).backward()
                reducer.wait()
            found.append(gradients(model))
            buckets.append(reducer.num_buckets)
        return found, gradients(reference), buckets

    expected = whole_gradients()
    for found, reference, buckets in run_processes(train):
        close(reference, expected)
        for ours in found:
            close(ours, expected)
        assert buckets == [6, 2, 1]


def test_a_parameter_without_a_gradient_is_an_error_not_a_hang() -> None:
    def forget() -> str:
        model = nn.ModuleList([nn.Linear(6, 4), nn.Linear(6, 4)])
        reducer = GradientReducer(model, 1)
        model[0](X).sum().backward()
        try:
            reducer.wait()
        except RuntimeError as error:
            return str(error)
        return ""

    assert all("2 of 4 buckets wait" in said for said in run_processes(forget))


def test_sync_batch_norm_equals_batch_norm_of_the_whole_batch() -> None:
    images, weights = 3 + 2 * drawn(7, 3, 2, 2), drawn(7, 3, 2, 2, seed=1)

    def normalize() -> tuple[Any, ...]:
        part = slice(0, 5) if distributed.get_rank() == 0 else slice(5, 7)
        layer, x = SyncBatchNorm(3), images[part].clone().requires_grad_()
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        y = layer(x)
        (y * weights[part]).sum().backward()
        assert x.grad is not None
        parameters = [all_reduce_sum(gradient) for gradient in gradients(layer)]
        layer.eval()
        return y.detach(), x.grad, parameters, layer.running_mean, layer(images).detach()

    layer, x = nn.BatchNorm2d(3), images.clone().requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    y = layer(x)
    (y * weights).sum().backward()
    assert x.grad is not None
    first, second = run_processes(normalize)
    close(torch.cat((first[0], second[0])), y.detach(), 1e-5)
    close(torch.cat((first[1], second[1])), x.grad, 1e-5)
    layer.eval()
    for found in (first, second):
        close(found[2], gradients(layer), 1e-5)
        close(found[3], layer.running_mean)
        close(found[4], layer(images).detach(), 1e-5)


# -- the cost of an exchange


def test_a_fit_finds_the_latency_and_bandwidth_that_made_the_times() -> None:
    cost = LinkCost(latency=30e-6, bandwidth=2e9)
    sizes = [2.0**exponent for exponent in range(10, 27, 2)]
    fitted = fit_link_cost(sizes, [cost.ring_seconds(size, 4) for size in sizes], 4)
    assert fitted.latency == pytest.approx(cost.latency)
    assert fitted.bandwidth == pytest.approx(cost.bandwidth)
    assert cost.ring_seconds(4e6, 4) == pytest.approx(6 * (30e-6 + 1e6 / 2e9))
    assert cost.star_seconds(4e6, 4) == pytest.approx(6 * (30e-6 + 4e6 / 2e9))
    assert scaling_efficiency(8.0, 2.5, 4) == pytest.approx(0.8)


def test_buckets_go_from_the_last_parameter_to_the_first() -> None:
    assert make_buckets([10, 20, 30, 40], 50) == [[3, 2], [1, 0]]
    assert make_buckets([10, 20, 30, 40], 1) == [[3], [2], [1], [0]]
    assert make_buckets([10, 20, 30, 40], 10**9) == [[3, 2, 1, 0]]


def test_exchanges_wait_for_their_gradients_and_for_each_other() -> None:
    assert overlapped_seconds([1, 2, 3], [0.5, 0.5, 0.5]) == 3.5
    assert overlapped_seconds([1, 2, 3], [2, 2, 2]) == 7
    assert overlapped_seconds([3], [6]) == 9


# -- ZeRO


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_memory_is_that_of_the_papers_first_figure(stage: int, gigabytes: float) -> None:
    memory = memory_per_process(7_500_000_000, 64, stage, weight=2, gradient=2, optimizer=12)
    assert memory.total / 1e9 == pytest.approx(gigabytes, abs=0.05)
    with pytest.raises(ValueError, match="stages 0 to 3"):
        memory_per_process(1, 2, 4)


def test_a_split_optimizer_takes_the_steps_of_adam_and_fsdp_holds_what_stage_3_says() -> None:
    def train() -> tuple[list[torch.Tensor], list[torch.Tensor], Memory, Memory]:
        model = network()
        optimizer = ZeroOptimizer(model.parameters(), lambda own: torch.optim.AdamW(own, lr=0.1))
        sharded = network()
        for layer in sharded:
            fully_shard(layer, mesh=init_device_mesh("cpu", (distributed.get_world_size(),)))
        fsdp_optimizer = torch.optim.AdamW(sharded.parameters(), lr=0.1)
        for _ in range(3):
            for each, step in ((model, optimizer), (sharded, fsdp_optimizer)):
                each.zero_grad()
                own_loss(each).backward()
                step.step()
        held = held_memory(optimizer.optimizer.param_groups[0]["params"], optimizer.optimizer)
        whole = [p.full_tensor().detach() for p in sharded.parameters() if isinstance(p, DTensor)]
        return [p.detach() for p in model.parameters()], whole, held, held_memory(sharded.parameters(), fsdp_optimizer)

    model = network()
    reference = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        reference.zero_grad()
        F.mse_loss(model(X), Y).backward()
        reference.step()
    count = sum(parameter.numel() for parameter in model.parameters())
    found = run_processes(train)
    for ours, fsdps, held, fsdp_held in found:
        close(ours, [p.detach() for p in model.parameters()], 1e-5)
        close(fsdps, ours, 1e-5)
        assert held.optimizer == memory_per_process(count, 2, 1).optimizer
        assert fsdp_held == memory_per_process(count, 2, 3)
    assert held_memory(model.parameters(), reference) == memory_per_process(count, 1, 0)


# -- tensor and pipeline parallelism


def test_column_and_row_parallel_layers_equal_the_whole_ones() -> None:
    def compute() -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        up, down = (layer for layer in list(network())[2::2] if isinstance(layer, nn.Linear))
        model = nn.Sequential(ColumnParallelLinear(up), nn.GELU(), RowParallelLinear(down))
        x = drawn(5, 3, 10).requires_grad_()
        y = model(x)
        y.square().sum().backward()
        assert x.grad is not None
        return y.detach(), x.grad, gradients(model)

    whole = network()
    x = drawn(5, 3, 10).requires_grad_()
    y = whole[4](F.gelu(whole[2](x)))
    y.square().sum().backward()
    assert x.grad is not None
    first, second = run_processes(compute)
    up, up_bias, down, _ = (torch.stack(both) for both in zip(first[2], second[2], strict=True))
    close(up.flatten(0, 1), whole[2].weight.grad, 1e-5)
    close(up_bias.flatten(), whole[2].bias.grad, 1e-5)
    close(torch.cat((down[0], down[1]), dim=1), whole[4].weight.grad, 1e-5)
    for found in (first, second):
        close(found[0], y.detach(), 1e-5)
        close(found[1], x.grad, 1e-5)
        close(found[2][3], whole[4].bias.grad, 1e-5)
    with pytest.raises(RuntimeError, match="5 features cannot be divided among 2"):
        run_processes(lambda: ColumnParallelLinear(nn.Linear(3, 5)))


@pytest.mark.parametrize("schedule", [gpipe, one_forward_one_backward])
def test_a_pipeline_equals_torchs_and_one_process(schedule: Callable[[int, int, int], list[tuple[str, int]]]) -> None:
    reference = ScheduleGPipe if schedule is gpipe else Schedule1F1B

    def train() -> tuple[float, int, list[torch.Tensor], list[torch.Tensor]]:
        rank = distributed.get_rank()
        module, same = (network()[3 * rank : 3 * rank + 3] for _ in range(2))  # 3 layers and 2
        inputs, targets = X.chunk(6), Y.chunk(6)
        loss, most = run_pipeline(module, schedule(2, rank, 6), inputs, lambda y, m: F.mse_loss(y, targets[m]), (2, 10))
        stage = PipelineStage(same, rank, 2, torch.device("cpu"))
        theirs = reference(stage, 6, loss_fn=F.mse_loss)
        theirs.step(X) if rank == 0 else theirs.step(target=Y)
        return loss, most, gradients(module), gradients(same)

    first, last = run_processes(train)
    expected = whole_gradients()
    close(first[2] + last[2], expected)
    close(first[3] + last[3], expected)
    assert last[0] == pytest.approx(F.mse_loss(network()(X), Y).item())
    assert (first[1], last[1]) == ((6, 6) if schedule is gpipe else (2, 1))


@pytest.mark.parametrize("schedule", [gpipe, one_forward_one_backward])
@pytest.mark.parametrize(("stages", "micro_batches"), [(2, 1), (4, 2), (4, 8), (3, 16)])
def test_the_bubble_is_what_the_formula_says(
    schedule: Callable[[int, int, int], list[tuple[str, int]]], stages: int, micro_batches: int
) -> None:
    schedules = [schedule(stages, stage, micro_batches) for stage in range(stages)]
    for tasks in schedules:
        assert sorted(tasks) == sorted(gpipe(stages, 0, micro_batches))
    times = timeline(schedules)
    whole = max(end for stage in times for _, end in stage.values())
    assert 1 - 3 * micro_batches / whole == pytest.approx(bubble_fraction(stages, micro_batches))


def test_schedules_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="wait for each other"):
        timeline([[("backward", 0), ("forward", 0)], [("forward", 0), ("backward", 0)]])
