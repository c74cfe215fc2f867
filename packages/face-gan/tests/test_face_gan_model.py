"""The graph that is exported: truncation, directions, mixing; of both networks."""

from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.generative.dcgan import Generator
from dlcommon.generative.style_gan import StyleGenerator
from dlcommon.runtime.arrays import metadata_of
from dlcommon.runtime.predict import original_predictor
from face_gan.config import PRESETS, Config
from face_gan.latents import COMPONENTS, Latents
from face_gan.model import InferenceModel, build, generator_graph, pixels
from face_gan.train import augment, step_flops

SMALL: dict[str, Any] = {"generator_width": 4, "discriminator_width": 4, "noise_dim": 16}
CONFIGS = {"style": Config(**SMALL), "dcgan": Config(**{**PRESETS["dcgan"], **SMALL})}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> Config:
    torch.manual_seed(0)
    return CONFIGS[request.param]


def graph(config: Config) -> tuple[Any, Latents]:
    predict = original_predictor(generator_graph(build(config)[0].eval(), config.network))
    return predict, Latents.of(metadata_of(predict))


def test_without_truncation_the_graph_is_the_generator(config: Config) -> None:
    generator, _ = build(config)
    generator.eval()
    predict = original_predictor(generator_graph(generator, config.network))
    latents = Latents.of(metadata_of(predict))
    noise = latents.sample(3, 0)
    images = predict(latents.inputs(noise))["images"]
    assert images.shape == (3, 64, 64, 3)
    assert 0 <= images.min() <= images.max() <= 1
    with torch.no_grad():
        expected = generator(torch.from_numpy(noise[:, 0].copy()))
    assert np.abs(images * 255 - pixels(expected)).max() <= 0.51


def test_full_truncation_is_one_face_and_directions_move_it(config: Config) -> None:
    predict, latents = graph(config)
    inputs = dict(latents.inputs(latents.sample(2, 0), truncation=0.0))
    one, other = predict(inputs)["images"]
    np.testing.assert_allclose(one, other, atol=1e-6)
    inputs["components"] = np.stack((np.zeros(COMPONENTS), 2 * np.eye(COMPONENTS)[0])).astype(np.float32)
    one, moved = predict(inputs)["images"]
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(moved - one).max() > 1e-6  # untrained, the baseline is almost gray


def test_directions_of_styles_are_their_principal_components() -> None:
    torch.manual_seed(0)
    generator, _ = build(CONFIGS["style"])
    assert isinstance(generator, StyleGenerator)
    model = InferenceModel(generator.eval())
    with torch.no_grad():
        styles = generator.mapping(torch.randn(4000, 16))
    torch.testing.assert_close(model.mean, styles.mean(dim=0), rtol=0, atol=0.1)
    # Along a direction, styles have the standard deviation that the direction is long.
    lengths = model.directions.norm(dim=1)
    along = (styles - styles.mean(dim=0)) @ (model.directions / lengths[:, None]).T
    torch.testing.assert_close(along.std(dim=0), lengths, rtol=0.1, atol=0.01)
    assert (lengths[:-1] >= lengths[1:]).all()


def test_directions_of_plain_noise_change_the_first_layer_most() -> None:
    torch.manual_seed(0)
    generator, _ = build(CONFIGS["dcgan"])
    model = InferenceModel(generator.eval())
    assert isinstance(generator, Generator)
    weight = generator.convolutions[0].get_parameter("weight").detach().flatten(1)
    changes = (model.directions @ weight).norm(dim=1)
    others = torch.nn.functional.normalize(torch.randn(500, 16), dim=1)
    assert changes[0] >= (others @ weight).norm(dim=1).max()
    assert (changes[:-1] >= changes[1:] - 1e-6).all()


def test_half_of_the_pictures_are_mirrored_and_all_scaled() -> None:
    batch = torch.randint(0, 256, (200, 64, 64, 3), dtype=torch.uint8)
    images = augment(batch, torch.Generator().manual_seed(0))
    plain = batch.permute(0, 3, 1, 2).float() / 127.5 - 1
    same = (images == plain).flatten(1).all(dim=1)
    mirrored = (images == plain.flip(-1)).flatten(1).all(dim=1)
    assert (same | mirrored).all()
    assert 60 < same.sum() < 140
    assert (pixels(plain) == batch.numpy()).all()


def test_more_channels_and_penalties_are_more_arithmetic() -> None:
    def flops(**changes: Any) -> int:
        config = Config(**{**SMALL, **changes})
        return step_flops(*build(config), config)

    assert flops() < flops(generator_width=8)
    assert flops(gradient_penalty=0.0) < flops() < flops(penalty_every=1)
    assert flops(loss="hinge") < flops()
    assert flops(batch_size=64) == 2 * flops()


def test_what_cannot_be_combined_is_refused() -> None:
    with pytest.raises(ValueError, match="gradient_penalty must be 0 with the network dcgan"):
        Config(network="dcgan")
