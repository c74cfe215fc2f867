"""The training loop."""

import torch
from dlcommon.runtime.flops import FlopsPerSample
from dlcommon.runtime.predict import ModulePredictor
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.muon import Muon
from dlcommon.training.schedules import cosine
from dlcommon.vision.task_aligned_assignment import Targets
from dlcommon.vision.yolo_loss import YoloLoss
from dlcommon.vision.yolo_v8 import Predictions
from torch import nn

from yolo_detector.augmentation import Augmentation, draw
from yolo_detector.config import VALIDATION_FIGURE, Config
from yolo_detector.detections import FittedPictures
from yolo_detector.metrics import map50
from yolo_detector.model import INPUTS, OUTPUTS, Detector, build
from yolo_detector.pictures import pack


class Summed(nn.Module):
    """Sums a network's outputs, for counting its arithmetic."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        predictions: Predictions = self.network(images)
        return predictions.distributions.sum() + predictions.logits.sum()


def optimizers(network: nn.Module, config: Config, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
    """Makes Muon for kernels that batch norm follows, AdamW for the last layers, norms and biases.

    With `optimizer` "adamw" there is AdamW alone, with weight decay for kernels.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    last = {
        id(module.weight) for module in network.modules() if isinstance(module, nn.Conv2d) and module.bias is not None
    }
    kernels = [parameter for parameter in parameters if parameter.dim() > 1]
    others = {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0}
    if config.optimizer == "adamw":
        groups = [{"params": kernels, "weight_decay": config.weight_decay}, others]
        return [torch.optim.AdamW(groups, lr=config.learning_rate)]
    inner = [kernel for kernel in kernels if id(kernel) not in last]
    heads = {"params": [kernel for kernel in kernels if id(kernel) in last], "weight_decay": config.weight_decay}
    return [
        Muon(inner, lr=config.muon_learning_rate, momentum=0.9, ns_steps=3, normalize=True, dtype=dtype),
        torch.optim.AdamW([heads, others], lr=config.learning_rate),
    ]


def train(run: TrainingRun[Config]) -> None:
    config, data = run.config, run.data.load()
    samples = data.train + data.validation if config.train_on == "all" else data.train
    pictures = pack(samples, config.kept_side)
    augment = Augmentation(config, pictures)
    validation = FittedPictures.of(data.validation, config.image_size) if config.train_on == "train" else None
    network = build(config, len(data.classes)).to(memory_format=torch.channels_last)
    network, *steppers = run.prepare(network, *optimizers(network, config, run.dtype))
    flops = FlopsPerSample(Summed(run.unwrap_model(network)))
    criterion, schedule = YoloLoss(), cosine(warmup=config.warmup, end=config.final_learning_rate)
    network.train()
    for (chosen,) in run.steps(run.batches(torch.arange(len(pictures)))):
        closed = run.progress >= 1 - config.close_mosaic
        draws = draw(config, len(pictures), 0.0 if closed else config.mosaic, run.generator("augmentation"))
        images, targets = augment(chosen.cpu(), draws.part(run.rank, run.world_size))
        images, targets = images.to(run.device), Targets(*(each.to(run.device) for each in targets))
        with run.forward(network):
            predictions = network(images)
        loss = criterion(predictions, targets)
        run.update(loss.total, *steppers, schedule=schedule)
        run.flops += flops(images) * config.batch_size
        if run.should_evaluate:
            figures = {f"{name}_loss": float(value.detach()) for name, value in loss._asdict().items()}
            if validation is not None:
                detector, bf16 = Detector(run.ema_model(network)), run.precision == "bf16"
                predict = ModulePredictor(detector, INPUTS, OUTPUTS, run.device, bf16, batch_size=config.batch_size)
                figures[VALIDATION_FIGURE] = map50(validation.detect(predict), data.validation, len(data.classes))
                network.train()
            chosen_by = VALIDATION_FIGURE if validation is not None else None
            run.log_evaluation(maximize=chosen_by, minimize=None, **figures)
    run.finish(network, classes=list(data.classes), pictures=len(samples))
