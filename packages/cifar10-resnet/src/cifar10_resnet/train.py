"""The training loop."""

from functools import partial

import numpy as np
import torch
from dlcommon.neural_networks.ensemble import Ensemble, mean_cross_entropy
from dlcommon.pytorch_core.augmentation import cutout, pad_reflect, random_crop, random_horizontal_flip
from dlcommon.runtime.batches import generator_for
from dlcommon.runtime.flops import FlopsPerSample
from dlcommon.runtime.image_classification import predict_probabilities, split_images
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.muon import Muon
from dlcommon.training.schedules import linear
from torch.nn import functional as F

from cifar10_resnet.config import Config
from cifar10_resnet.model import OUTPUTS, FastResNet, InferenceModel, Normalize, build


def optimizers(
    networks: Ensemble, config: Config, dtype: torch.dtype
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Makes Muon for the convolution kernels, SGD for biases and the last layer.

    The fast network's rates are those of Jordan 2024, restated for the mean instead of the sum over a batch: its
    norms have no scale to train, so that its biases take far larger steps than a ResNet's.
    """
    trained = [parameter for parameter in networks.parameters() if parameter.requires_grad]
    kernels = [parameter for parameter in trained if parameter.dim() == 4]
    vectors = [parameter for parameter in trained if parameter.dim() < 2]
    heads = [parameter for parameter in trained if parameter.dim() in (2, 3)]
    fast = isinstance(networks.members[0], FastResNet)
    vector_rate, head_lr = (0.053 * config.batch_size, 1e-5 * config.batch_size) if fast else (0.1, 0.1)
    decay = 2e-6 * config.batch_size if fast else 5e-5
    groups = [
        {"params": vectors, "lr": vector_rate, "weight_decay": decay / vector_rate},
        {"params": heads, "lr": head_lr, "weight_decay": decay / head_lr},
    ]
    muon = Muon(kernels, lr=config.learning_rate, momentum=0.6, ns_steps=3, normalize=True, dtype=dtype)
    return muon, torch.optim.SGD(groups, momentum=0.85, nesterov=True)


def train(run: TrainingRun[Config]) -> None:
    config = run.config
    data = run.data.load()
    split = split_images(data, config.validation_size, config.batch_size)
    images = torch.from_numpy(split.train_images)  # uint8 [samples, height, width, channels]
    labels = torch.from_numpy(split.train_labels)
    normalize = Normalize().to(run.device)
    networks = build(config, len(data.classes))
    first = normalize(images[:5000].to(run.device))
    for member in networks.members:
        if isinstance(member, FastResNet):
            member.whitening.fit(first)
    networks = networks.to(memory_format=torch.channels_last)
    networks, muon, sgd = run.prepare(networks, *optimizers(networks, config, run.dtype))
    flops = FlopsPerSample(run.unwrap_model(networks))

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

    def probabilities(images: np.ndarray, tta: bool) -> np.ndarray:
        return predict_probabilities(run, networks, partial(InferenceModel, tta=tta), images, OUTPUTS)

    mirrored = random_horizontal_flip(images.permute(0, 3, 1, 2), generator_for(config.seed))
    batches = run.batches(pad_reflect(mirrored, config.translate), labels, transform=augment)
    networks.train()
    for batch, targets in run.steps(batches):
        with run.forward(networks):
            logits = networks(batch)  # [members, batch, classes]
        loss = mean_cross_entropy(logits, targets, config.label_smoothing)
        run.update(loss, muon, sgd, schedule=linear(warmup=config.warmup), gradient_scale=len(logits))
        run.flops += flops(batch) * config.batch_size
        if run.should_evaluate:
            _, validation_loss = split.score(probabilities(split.validation_images, tta=False))
            # For the record of time to accuracy only: nothing is chosen by it.
            predicted = probabilities(data.test_images, tta=False).argmax(axis=1)
            accuracy = float((predicted == data.test_labels).mean())
            run.log_evaluation(loss=loss.item(), validation_loss=validation_loss, test_accuracy_one_view=accuracy)
    temperature = split.temperature(probabilities(split.validation_images, config.tta))
    run.finish(networks, classes=list(data.classes), temperature=temperature)
