"""The training loop."""

import numpy as np
import torch
from dlcommon.neural_networks.ensemble import Ensemble, mean_cross_entropy
from dlcommon.pytorch_core.augmentation import random_affine
from dlcommon.runtime.flops import FlopsPerSample
from dlcommon.runtime.image_classification import predict_probabilities, split_images
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.muon import Muon
from dlcommon.training.schedules import linear

from mnist_classifier.config import Config
from mnist_classifier.model import InferenceModel, Normalize, build


def optimizers(
    network: Ensemble, config: Config, dtype: torch.dtype
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Makes Muon for kernels and hidden matrices, AdamW for each member's last layer, norms and biases."""
    last = {id(list(member.modules())[-1].weight) for member in network.members}
    inner = [p for p in network.parameters() if p.dim() > 1 and id(p) not in last]
    chosen = {id(p) for p in inner}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    muon = Muon(inner, lr=config.learning_rate, momentum=0.9, ns_steps=3, normalize=True, dtype=dtype)
    return muon, torch.optim.AdamW(rest, lr=config.head_lr, weight_decay=0.01)


def train(run: TrainingRun[Config]) -> None:
    config = run.config
    data = run.data.load()
    split = split_images(data, config.validation_size, config.batch_size)
    digits = torch.from_numpy(split.train_images[:, :, :, 0])  # uint8 [samples, 28, 28]
    labels = torch.from_numpy(split.train_labels)
    normalize = Normalize()
    network = build(config, len(data.classes)).to(memory_format=torch.channels_last)
    network, muon, adam = run.prepare(network, *optimizers(network, config, run.dtype))
    flops = FlopsPerSample(run.unwrap_model(network))

    def augment(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        images = random_affine(
            batch.float().unsqueeze(1), generator, degrees=config.degrees, translate=config.translate,
            scale=config.scale, shear=config.shear, elastic=config.elastic,
        )  # fmt: skip
        normalized: torch.Tensor = normalize(images.squeeze(1))
        return normalized.contiguous(memory_format=torch.channels_last)

    def probabilities() -> np.ndarray:
        return predict_probabilities(run, network, InferenceModel, split.validation_images[:, :, :, 0])

    network.train()
    for images, targets in run.steps(run.batches(digits, labels, transform=augment)):
        with run.forward(network):
            logits = network(images)  # [members, batch, classes]
        loss = mean_cross_entropy(logits, targets, config.label_smoothing)
        run.update(loss, muon, adam, schedule=linear(warmup=0.1), gradient_scale=len(logits))
        run.flops += flops(images) * config.batch_size
        if run.should_evaluate:
            if config.validation_size:
                accuracy, validation_loss = split.score(probabilities())
                run.log_evaluation(
                    minimize="validation_loss", loss=loss.item(), validation_accuracy=accuracy,
                    validation_loss=validation_loss,
                )  # fmt: skip
            else:
                run.log_evaluation(minimize="loss", loss=loss.item())
    temperature = split.temperature(probabilities()) if config.validation_size else 1.0
    run.finish(network, classes=list(data.classes), temperature=temperature)
