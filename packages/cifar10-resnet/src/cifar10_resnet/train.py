"""The training loop."""

import torch
from torch import nn
from torch.nn import functional as F

from cifar10_resnet.config import Config
from cifar10_resnet.model import FastResNet, Normalize, build
from dlcommon.pytorch_core.augmentation import cutout, pad_reflect, random_crop, random_flip
from dlcommon.runtime.batches import generator_for
from dlcommon.runtime.measure import training_flops
from dlcommon.runtime.run import Run
from dlcommon.training.muon import Muon
from dlcommon.training.schedules import linear


def optimizers(network: nn.Module, config: Config) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon for the convolution kernels, SGD for biases and the last layer."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    kernels = [parameter for parameter in trained if parameter.dim() == 4]
    vectors = [parameter for parameter in trained if parameter.dim() == 1]
    heads = [parameter for parameter in trained if parameter.dim() == 2]
    groups = [
        {"params": vectors, "lr": config.vector_rate, "weight_decay": config.weight_decay / config.vector_rate},
        {"params": heads, "lr": config.head_rate, "weight_decay": config.weight_decay / config.head_rate},
    ]
    muon = Muon(kernels, lr=config.learning_rate, momentum=0.6, iterations=3, normalize=True)
    return muon, torch.optim.SGD(groups, momentum=0.85, nesterov=True)


def train(run: Run[Config]) -> None:
    config = run.config
    data = run.data.load()
    images = torch.from_numpy(data.train_images)  # uint8 [samples, height, width, channels]
    labels = torch.from_numpy(data.train_labels)
    normalize = Normalize().to(run.device)
    network = build(config.model, len(data.classes), config.widths)
    if isinstance(network, FastResNet):
        network.whitening.fit(normalize(images[:5000]))
    network = network.to(memory_format=torch.channels_last)
    network, muon, sgd = run.prepare(network, *optimizers(network, config))

    def augment(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batch = random_crop(batch, 32, generator)
        if run.epoch % 2:  # alternating flips: every image is seen mirrored exactly every other epoch
            batch = batch.flip(-1)
        batch = normalize(batch.permute(0, 2, 3, 1))
        if config.cutout:
            batch = cutout(batch, config.cutout, generator)
        # Small images first: what is learnt early needs little detail, and time goes with the square of the size.
        size = config.resolutions[sum(run.progress >= stage for stage in config.stages)]
        if size != 32:
            batch = F.interpolate(batch, (size, size), mode="bilinear", antialias=True)
        return batch.contiguous(memory_format=torch.channels_last)

    mirrored = random_flip(images.permute(0, 3, 1, 2), generator_for(config.seed))
    batches = run.batches(pad_reflect(mirrored, config.translate), labels, transform=augment)
    network.train()
    for batch, targets in run.steps(batches):
        with run.forward(network):
            logits = network(batch)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=config.label_smoothing)
        run.update(loss, muon, sgd, schedule=linear(warmup=config.warmup))
        if run.due_evaluation:
            run.evaluated(loss=loss.item(), train_accuracy=(logits.argmax(1) == targets).float().mean().item())
    run.finish(network)
