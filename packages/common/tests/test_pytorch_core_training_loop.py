"""Our training loop against the same training written with torch's parts."""

import math

import pytest
import torch
from dlcommon.neural_networks.mlp import MLP
from dlcommon.pytorch_core.loader import DataLoader, TensorDataset
from dlcommon.pytorch_core.optimizers import SGD
from dlcommon.pytorch_core.training_loop import evaluate, fit
from dlcommon.training.schedules import linear
from torch import nn


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MLP(5, [7], 3).double()


@pytest.fixture
def samples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(24, 5, generator=generator).double(), torch.randint(3, (24,), generator=generator)


def test_the_loop_equals_one_of_torchs_parts(samples: tuple[torch.Tensor, torch.Tensor]) -> None:
    ours, theirs = network(), network()
    history = fit(ours, SGD(ours.parameters(), 0.3), DataLoader(TensorDataset(*samples), 8), samples, 3, linear(), 0.5)
    optimizer = torch.optim.SGD(theirs.parameters(), 0.3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 9)
    losses, rates = [], []
    for _ in range(3):
        for inputs, targets in zip(*(part.split(8) for part in samples), strict=True):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(theirs(inputs), targets)
            loss.backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    assert history.losses == pytest.approx(losses, rel=1e-12)
    assert history.learning_rates == pytest.approx(rates, rel=1e-12)
    assert len(history.validation_losses) == 3
    assert history.best_epoch == 2, "else the weights would be those of an earlier epoch"
    for mine, expected in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)


def test_evaluation_leaves_the_networks_mode_and_statistics_alone(samples: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = network()
    for mode in (True, False):
        model.train(mode)
        before = [buffer.clone() for buffer in model.buffers()]
        loss, accuracy = evaluate(model, *samples)
        assert model.training is mode
        assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
        logits = model.eval()(samples[0])
        assert loss == pytest.approx(nn.functional.cross_entropy(logits, samples[1]).item())
        assert accuracy == (logits.argmax(1) == samples[1]).double().mean().item()


def test_it_stops_and_keeps_the_best_epoch(samples: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = network()
    noise = samples[0].flip(0), (samples[1] + 1) % 3  # what is learnt makes it worse
    history = fit(model, SGD(model.parameters(), 0.5), DataLoader(TensorDataset(*samples), 8), noise, 30, patience=2)
    assert len(history.validation_losses) == history.best_epoch + 3 < 30
    assert evaluate(model, *noise)[0] == pytest.approx(min(history.validation_losses))
    assert min(history.validation_losses) < history.validation_losses[-1]


def test_a_loss_that_is_not_a_number_is_told(samples: tuple[torch.Tensor, torch.Tensor]) -> None:
    samples[0][9] = math.inf
    model = network()
    with pytest.raises(FloatingPointError, match=r"epoch 0, step 1: the loss is nan; lower the lr"):
        fit(model, SGD(model.parameters(), 0.1), DataLoader(TensorDataset(*samples), 8), samples, 2)
