import copy
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from cifar10_resnet.config import Config
from cifar10_resnet.model import FastResNet, InferenceModel, Normalize, build, network
from dlcommon.neural_networks.ensemble import Ensemble
from dlcommon.runtime.errors import UsageError


@pytest.mark.parametrize("name", ["fast", "resnet18", "resnet34", "resnet50", "timm/resnet10t"])
def test_every_model_takes_small_images(name: str) -> None:
    networks = build(Config(model=name, widths=(16, 16, 32), members=2), num_classes=10).eval()
    assert networks(torch.randn(2, 3, 32, 32)).shape == (2, 2, 10)


def test_an_unknown_timm_model_is_named_with_similar_ones() -> None:
    with pytest.raises(UsageError, match=r"resnet19.*similar: .*resnet"):
        network("timm/resnet19", num_classes=10, widths=(8, 8, 8))


def test_normalize_gives_zero_mean_and_unit_deviation() -> None:
    pixels = np.array([[[[0.4914 * 255, 0.4822 * 255, 0.4465 * 255]]]])
    assert torch.allclose(Normalize()(torch.from_numpy(pixels)), torch.zeros(1, 3, 1, 1), atol=1e-5)
    white = Normalize()(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8))
    assert torch.allclose(white[0, :, 0, 0], torch.tensor([2.0591, 2.1265, 2.1158]), atol=1e-3)


def test_the_six_views_are_averaged_with_their_weights() -> None:
    torch.manual_seed(0)
    one = FastResNet((8, 8, 8), 10).eval()
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    images = Normalize()(pixels)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")
    expected = torch.zeros(3, 10)
    for weight, view in [(0.5, images), (0.25, padded[:, :, :32, :32]), (0.25, padded[:, :, 2:, 2:])]:
        expected += weight * 0.5 * (one(view) + one(view.flip(3)))
    assert torch.allclose(InferenceModel(Ensemble([one]), tta=True)(pixels)[0], expected.softmax(dim=1), atol=1e-6)
    assert torch.allclose(InferenceModel(Ensemble([one]), tta=False)(pixels)[0], one(images).softmax(dim=1), atol=1e-6)


def test_an_ensemble_answers_with_the_mean_of_its_members_logits_and_maps() -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    networks = build(Config(widths=(8, 8, 8), members=3), 10).eval()
    probabilities, maps = InferenceModel(networks, tta=False)(pixels)
    expected = networks(Normalize()(pixels)).mean(dim=0).softmax(dim=1)
    assert torch.allclose(probabilities, expected, atol=1e-6)
    alone = [InferenceModel(Ensemble([member]), tta=False)(pixels)[1] for member in networks.members]
    assert torch.allclose(maps, torch.stack(alone).mean(dim=0), atol=1e-6)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from the compiler's own imports
def test_in_bf16_a_compiled_network_has_the_gradients_of_the_plain_one() -> None:
    torch.manual_seed(0)
    plain = FastResNet((8, 8, 8), 10)
    compiled = copy.deepcopy(plain)
    compiled.compile()
    images, gradients = torch.randn(16, 3, 20, 20), []
    for model in (plain, compiled):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(images)
        logits.float().square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert (gradients[0] - gradients[1]).norm() < 0.1 * gradients[0].norm()


def test_activation_maps_average_to_the_logits() -> None:
    torch.manual_seed(0)
    one = network("resnet18", 10, (8, 8, 8)).eval()
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    _, maps = InferenceModel(Ensemble([one]), tta=False)(pixels)
    assert maps.shape == (2, 10, 4, 4)
    expected = one(Normalize()(pixels))
    assert isinstance(one.fc, torch.nn.Linear)
    assert torch.allclose(maps.mean(dim=(2, 3)) + one.fc.bias, expected, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "resnet19"},
        {"stages": (0.5,)},
        {"stages": (0.6, 0.3)},
        {"resolutions": (4, 26, 32)},
        {"label_smoothing": 1.0},
    ],
)
def test_impossible_configs_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Config(**change)
