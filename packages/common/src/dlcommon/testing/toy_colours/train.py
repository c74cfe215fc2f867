"""The toy's training loop."""

import torch
from torch.nn import functional as F

from dlcommon.runtime.training_run import TrainingRun
from dlcommon.testing.toy_colours.config import Config
from dlcommon.testing.toy_colours.model import Network


def train(run: TrainingRun[Config]) -> None:
    data = run.data.load()
    torch.manual_seed(run.config.seed)
    network = Network(run.config)
    network, optimizer = run.prepare(network, torch.optim.SGD(network.parameters(), lr=0.01))
    for images, labels in run.steps(run.batches(*map(torch.from_numpy, (data.train_images, data.train_labels)))):
        with run.forward(network):
            loss = F.nll_loss(network(images).log(), labels)
        run.update(loss, optimizer)
        if run.should_evaluate:
            run.log_evaluation(minimize="loss", loss=loss.item())
    run.finish(network, classes=list(data.classes))
