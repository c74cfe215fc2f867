"""Models trained at once against the same models trained one after the other."""

import copy

import torch
from dlcommon.neural_networks.stacked_models import StackedModels
from torch import nn


def test_stacked_models_learn_as_they_would_alone() -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double() for _ in range(3)]
    alone = copy.deepcopy(models)
    stacked = StackedModels(models)
    batches = torch.randn(5, 3, 8, 3, dtype=torch.float64)  # [updates, models, batch, features]
    optimizer = torch.optim.Adam(stacked.parameters(), lr=0.1)
    for x in batches:
        loss = stacked(x).square().mean(dim=(1, 2)).sum()  # the sum over models: each has the gradient of its own loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for number, model in enumerate(alone):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for x in batches:
            optimizer.zero_grad()
            model(x[number]).square().mean().backward()
            optimizer.step()
    for ours, expected in zip(stacked.unstack(), alone, strict=True):
        for name, weight in expected.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], weight)
