"""Update rules against torch.optim, and Lion against timm, step by step."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from dlcommon.pytorch_core.optimizers import SGD, Adam, AdamW, RMSprop
from dlcommon.training.adam_variants import AMSGrad, Lion, NAdam
from timm.optim.lion import Lion as TimmLion
from torch import nn
from torch.nn import functional as F

Build = Callable[..., torch.optim.Optimizer]

amsgrad = partial(torch.optim.Adam, amsgrad=True)
RULES = [
    pytest.param(SGD, torch.optim.SGD, {"lr": 0.1}, id="sgd"),
    pytest.param(SGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.05}, id="sgd-decay"),
    pytest.param(SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}, id="momentum"),
    pytest.param(SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, id="nesterov"),
    pytest.param(SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.9}, id="dampening"),
    pytest.param(RMSprop, torch.optim.RMSprop, {"lr": 0.01, "weight_decay": 0.05}, id="rmsprop"),
    pytest.param(RMSprop, torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.5, "eps": 1e-3}, id="rmsprop-short"),
    pytest.param(Adam, torch.optim.Adam, {"lr": 0.01}, id="adam"),
    pytest.param(Adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.5, 0.9), "weight_decay": 0.1}, id="adam-decay"),
    pytest.param(AdamW, torch.optim.AdamW, {"lr": 0.01}, id="adamw"),
    pytest.param(AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.5, "eps": 1e-4}, id="adamw-decay"),
    pytest.param(AMSGrad, amsgrad, {"lr": 0.01, "betas": (0.9, 0.8)}, id="amsgrad"),
    pytest.param(AMSGrad, amsgrad, {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-3}, id="amsgrad-decay"),
    pytest.param(NAdam, torch.optim.NAdam, {"lr": 0.01}, id="nadam"),
    pytest.param(NAdam, torch.optim.NAdam, {"momentum_decay": 0.1, "weight_decay": 0.1}, id="nadam-decay"),
    pytest.param(Lion, TimmLion, {"lr": 0.01}, id="lion"),
    pytest.param(Lion, TimmLion, {"lr": 0.01, "betas": (0.5, 0.9), "weight_decay": 0.3}, id="lion-decay"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """Computes in float64; torch's NAdam keeps a product of momenta in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(16, 5, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(3, (16,), generator=generator)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[torch.Tensor]:
    """All weights after each step, [steps, weights]."""
    path = []
    for step in steps:
        inputs, targets = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        path.append(nn.utils.parameters_to_vector(model.parameters()).detach().clone())
    return path


def assert_same_path(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert (theirs[-1] - theirs[0]).abs().max() > 1e-3, "nothing moved"
    for step, (own, reference) in enumerate(zip(ours, theirs, strict=True)):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-11, msg=partial("step {}: {}".format, step))


@pytest.mark.parametrize(("ours", "theirs", "options"), RULES)
def test_every_step_is_torchs(ours: Build, theirs: Build, options: dict[str, Any]) -> None:
    own, reference = network(), network()
    assert_same_path(
        train(own, ours(own.parameters(), **options), range(20)),
        train(reference, theirs(reference.parameters(), **options), range(20)),
    )


@pytest.mark.parametrize(("ours", "theirs", "options"), RULES)
def test_a_run_that_torch_began_is_continued(ours: Build, theirs: Build, options: dict[str, Any]) -> None:
    reference = network()
    optimizer = theirs(reference.parameters(), **options)
    train(reference, optimizer, range(5))
    own = copy.deepcopy(reference)
    continued = ours(own.parameters())  # with default options: those of the run are loaded
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert_same_path(train(own, continued, range(5, 12)), train(reference, optimizer, range(5, 12)))


@pytest.mark.parametrize(("ours", "theirs", "options"), RULES)
def test_resumes_from_its_state_to_the_same_bits(ours: Build, theirs: Build, options: dict[str, Any]) -> None:
    whole = network()
    optimizer = ours(whole.parameters(), **options)
    train(whole, optimizer, range(5))
    resumed = copy.deepcopy(whole)
    second = ours(resumed.parameters(), **options)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    last, again = (train(*pair, range(5, 10))[-1] for pair in ((whole, optimizer), (resumed, second)))
    assert torch.equal(last, again)


def test_groups_have_their_own_options() -> None:
    own, reference = network(), network()
    groups = [
        [{"params": first.parameters(), "lr": 0.2}, {"params": last.parameters(), "weight_decay": 0.3}]
        for first, _, last in (own.children(), reference.children())
    ]
    assert_same_path(
        train(own, AdamW(groups[0], lr=0.01), range(5)),
        train(reference, torch.optim.AdamW(groups[1], lr=0.01), range(5)),
    )


def test_amsgrad_does_not_forget_a_large_gradient() -> None:
    steps = {}
    for build in (Adam, AMSGrad):
        w, lengths = nn.Parameter(torch.zeros(1, dtype=torch.float64)), []
        optimizer = build([w], lr=0.1, betas=(0.0, 0.5))
        for gradient in (1.0, 100.0, 1.0, 1.0, 1.0):
            before, w.grad = w.item(), torch.full_like(w, gradient)
            optimizer.step()
            lengths.append(before - w.item())
        steps[build] = lengths
    assert steps[Adam][4] > 2 * steps[Adam][2]  # Adam forgets the large gradient by halves
    assert steps[AMSGrad][4] < 1.1 * steps[AMSGrad][2]


def test_parameters_without_a_gradient_stay() -> None:
    moved, still = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    moved.grad = torch.ones(3)
    AdamW([moved, still], lr=0.1, weight_decay=0.5).step()
    assert (moved != 1).all()
    assert torch.equal(still, torch.ones(3))


@pytest.mark.parametrize("build", [SGD, RMSprop, Adam, AdamW, AMSGrad, NAdam, Lion])
def test_gradients_are_left_as_they_are(build: Build) -> None:
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.tensor([1.0, 2.0, 3.0])
    build([parameter], weight_decay=0.1).step()
    assert torch.equal(parameter.grad, torch.tensor([1.0, 2.0, 3.0]))


def test_closure_is_called_with_gradients_on_and_its_loss_returned() -> None:
    parameter = nn.Parameter(torch.tensor([3.0]))
    optimizer = SGD([parameter], lr=0.5)

    def closure() -> float:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 9.0
    assert parameter.item() == 0.0


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (SGD, {"lr": -1.0}),
        (SGD, {"lr": float("nan")}),
        (SGD, {"momentum": 1.0}),
        (SGD, {"weight_decay": -0.1}),
        (SGD, {"nesterov": True}),
        (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.5}),
        (SGD, {"dampening": float("inf")}),
        (RMSprop, {"alpha": 1.0}),
        (RMSprop, {"eps": -1e-8}),
        (Adam, {"betas": (0.9, 1.0)}),
        (AdamW, {"weight_decay": -1.0}),
        (NAdam, {"momentum_decay": -1.0}),
        (Lion, {"lr": -1.0}),
        (Lion, {"betas": (1.0, 0.9)}),
    ],
)
def test_impossible_options_are_named(build: Build, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        build([nn.Parameter(torch.ones(1))], **options)
