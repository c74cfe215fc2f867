"""Mixup and CutMix against torchvision's, image by image."""

from collections.abc import Callable

import pytest
import torch
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.mixing import blend, cutmix, mixup, one_hot, paste_boxes, random_boxes, sample_beta
from scipy import stats
from torchvision.transforms import v2

Mix = Callable[[torch.Tensor, torch.Tensor, torch.Generator], tuple[torch.Tensor, torch.Tensor]]

BATCH, CLASSES, HEIGHT, WIDTH = 16, 5, 9, 7


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(BATCH, 3, HEIGHT, WIDTH, generator=generator(5), dtype=torch.float64)
    return images, torch.randint(CLASSES, (BATCH,), generator=generator(6))


def test_mixup_is_torchvisions_for_every_share() -> None:
    images, labels = batch()
    targets, share = one_hot(labels, CLASSES).double(), torch.linspace(0, 1, BATCH, dtype=torch.float64)
    mixed, mixed_targets = blend(images, share), blend(targets, share)
    reference = v2.MixUp(num_classes=CLASSES)
    for row, lam in enumerate(share.tolist()):
        params = {"labels": targets, "batch_size": BATCH, "lam": lam}
        torch.testing.assert_close(mixed[row], reference.transform(images, params)[row], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(mixed_targets[row], reference.transform(targets, params)[row], rtol=1e-12, atol=0)


def test_cutmix_is_torchvisions_for_every_box() -> None:
    images, labels = batch()
    targets = one_hot(labels, CLASSES)
    mixed, mixed_targets = cutmix(images, targets, generator(3))
    drawing = generator(3)
    boxes = random_boxes(sample_beta(BATCH, 1.0, drawing), HEIGHT, WIDTH, drawing)
    assert len(boxes.unique(dim=0)) > BATCH // 2
    reference = v2.CutMix(num_classes=CLASSES)
    for row, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        share = 1 - (x2 - x1) * (y2 - y1) / (WIDTH * HEIGHT)
        params = {"labels": targets, "batch_size": BATCH, "box": (x1, y1, x2, y2), "lam_adjusted": share}
        assert torch.equal(mixed[row], reference.transform(images, params)[row])
        torch.testing.assert_close(mixed_targets[row], reference.transform(targets, params)[row], rtol=0, atol=1e-6)


def test_boxes_are_drawn_as_torchvision_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same centres and shares give the same boxes."""
    share = torch.linspace(0, 1, 200)
    boxes = random_boxes(share, HEIGHT, WIDTH, generator(1))
    drawing = generator(1)
    columns, rows = (torch.randint(size, (200,), generator=drawing) for size in (WIDTH, HEIGHT))
    reference = v2.CutMix(num_classes=CLASSES)
    for row in range(200):
        draws = iter([columns[row : row + 1], rows[row : row + 1]])
        monkeypatch.setattr(torch, "randint", lambda *_, d=draws, **__: next(d))
        monkeypatch.setattr(reference._dist, "sample", lambda *_, s=share[row]: s)
        params = reference.make_params([torch.zeros(1, 3, HEIGHT, WIDTH)])
        assert params["box"] == tuple(boxes[row].tolist())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    draws = sample_beta(4000, alpha, generator())
    assert stats.kstest(draws.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_targets_stay_probabilities_and_name_only_the_two_images(mix: Mix) -> None:
    images, labels = batch()
    mixed, targets = mix(images.float(), one_hot(labels, CLASSES), generator())
    assert mixed.shape == images.shape
    torch.testing.assert_close(targets.sum(1), torch.ones(BATCH))
    own_and_partners = one_hot(labels, CLASSES) + one_hot(labels.roll(1), CLASSES)
    assert (targets[own_and_partners == 0] == 0).all()
    assert ((targets > 0) & (targets < 1)).any()


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_the_generator_alone_decides(mix: Mix) -> None:
    images, labels = batch()
    before, targets = images.clone(), one_hot(labels, CLASSES)
    first = mix(images, targets, generator(1))
    torch.manual_seed(99)
    assert all(torch.equal(a, b) for a, b in zip(first, mix(images, targets, generator(1)), strict=True))
    assert not torch.equal(first[0], mix(images, targets, generator(2))[0])
    assert torch.equal(images, before), "the input was written to"


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_everything_stays_on_the_images_device(mix: Mix) -> None:
    images, targets = torch.empty(4, 3, 8, 8, device="meta"), torch.empty(4, CLASSES, device="meta")
    assert all(result.device.type == "meta" for result in mix(images, targets, generator()))


def test_the_loss_of_a_blend_is_the_blend_of_the_losses() -> None:
    """Which is why mixup can be trained on soft targets: cross-entropy is linear in them."""
    _, labels = batch()
    logits = torch.randn(BATCH, CLASSES, generator=generator(7))
    share = torch.rand(BATCH, generator=generator(8))
    soft = cross_entropy(logits, blend(one_hot(labels, CLASSES), share), reduction="none")
    own, partners = (cross_entropy(logits, y, reduction="none") for y in (labels, labels.roll(1)))
    torch.testing.assert_close(soft, share * own + (1 - share) * partners)


def test_bad_arguments_are_named() -> None:
    images, labels = batch()
    with pytest.raises(ValueError, match="one_hot"):
        mixup(images, labels, generator())
    with pytest.raises(ValueError, match="alpha"):
        cutmix(images, one_hot(labels, CLASSES), generator(), alpha=0)
    with pytest.raises(ValueError, match="uint8"):
        mixup((255 * images).to(torch.uint8), one_hot(labels, CLASSES), generator())


def test_an_empty_box_changes_nothing() -> None:
    images, _ = batch()
    assert torch.equal(paste_boxes(images, torch.tensor([[3, 3, 3, 3]] * BATCH)), images)
