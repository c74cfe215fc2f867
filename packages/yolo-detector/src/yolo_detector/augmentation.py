"""Augmentation: mosaic, scale, shift, mirrors, right angles, colors, mixup, in the ranges of ultralytics.

A mosaic (Bochkovskiy et al. 2020, arXiv:2004.10934, section 3.3) puts four pictures together around the point where
they meet. Each picture is resized once, to the whole number of pixels that it takes, and its boxes with it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from dlcommon.vision.task_aligned_assignment import Targets
from torch.nn import functional as F

from yolo_detector.config import Config
from yolo_detector.letterbox import GRAY
from yolo_detector.pictures import Pictures

SMALLEST_SIDE, SMALLEST_SHARE = 2, 0.1
"""A box that the border cuts is kept if its sides are longer than these pixels and more than this share of its area is
left."""
CORNERS = torch.tensor([[1, 1], [0, 1], [1, 0], [0, 0]])
"""How many of its own widths and heights each picture of a mosaic begins before the point where they meet."""


class Draws(NamedTuple):
    """What is drawn for each picture of a batch, on the CPU."""

    partners: torch.Tensor
    """The three other pictures of a mosaic, int64 [batch, 3]."""
    is_mosaic: torch.Tensor
    """bool [batch]."""
    meeting: torch.Tensor
    """Where the four meet, x and y as shares of a canvas of twice the side, [batch, 2]."""
    scale: torch.Tensor
    """[batch]."""
    shift: torch.Tensor
    """As a share of the side, [batch, 2]."""
    is_mirrored: torch.Tensor
    """Left to right and top to bottom, bool [batch, 2]."""
    is_turned: torch.Tensor
    """bool [batch]."""
    colors: torch.Tensor
    """Hue, saturation and brightness, shares of their ranges in [-1, 1], [batch, 3]."""
    is_mixed: torch.Tensor
    """bool [batch]."""

    def part(self, rank: int, world_size: int) -> "Draws":
        """Returns one process's equal part."""
        share = len(self.scale) // world_size
        return Draws(*(each[rank * share : (rank + 1) * share] for each in self))


def draw(config: Config, pictures: int, mosaic: float, generator: torch.Generator) -> Draws:
    """Draws for a whole batch, with a share of `mosaic` mosaics of that many pictures."""
    n = config.batch_size

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    return Draws(
        torch.randint(pictures, (n, 3), generator=generator),
        uniform(0, 1) < mosaic,
        uniform(0.25, 0.75, 2),
        uniform(1 - config.scale, 1 + config.scale),
        uniform(-config.translate, config.translate, 2),
        uniform(0, 1, 2) < torch.tensor([config.flip, config.flip_vertical]),
        uniform(0, 1) < config.rotate,
        uniform(-1, 1, 3),
        uniform(0, 1) < config.mixup,
    )


class Layout(NamedTuple):
    """Where the pictures of each training picture lie."""

    sources: torch.Tensor
    """The four pictures, int64 [batch, 4]: top left, top right, bottom left, bottom right; or one, and no others."""
    used: torch.Tensor
    """bool [batch, 4]."""
    sizes: torch.Tensor
    """Width and height that each is resized to, int64 [batch, 4, 2]."""
    corners: torch.Tensor
    """Left and top of each, int64 [batch, 4, 2]; it may lie outside."""


@dataclass(frozen=True)
class Augmentation:
    """Makes training pictures of `image_size` × `image_size` pixels."""

    config: Config
    pictures: Pictures

    def __call__(self, chosen: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, Targets]:
        """Makes a batch on the CPU.

        Args:
            chosen: indices of the pictures, int64 [batch].
            draws: as of `draw`, for these pictures.

        Returns:
            Images float32 [batch, 3, side, side] in 0 … 1, channels last in memory, and their objects.
        """
        layout = self._layout(chosen, draws)
        images, targets = self._images(layout), self._objects(layout)
        images, targets = self._mirrored(images, targets, draws)
        images = self._colored(images.float(), draws.colors)
        if self.config.mixup:
            images, targets = _mixed(images, targets, draws.is_mixed)
        return images.div_(255).contiguous(memory_format=torch.channels_last), _compacted(targets)

    def _layout(self, chosen: torch.Tensor, draws: Draws) -> Layout:
        side = self.config.image_size
        sources = torch.cat((chosen[:, None], draws.partners), 1)
        sizes = self.pictures.sizes[sources].double()  # [batch, 4, 2]
        zoom = draws.scale[:, None, None] * side / sizes.amax(-1, keepdim=True)
        sizes = (sizes * zoom).round().long().clamp(min=1)
        middle = side / 2 + side * draws.shift  # of the canvas, [batch, 2]
        meeting = (middle + (2 * draws.meeting - 1) * side * draws.scale[:, None]).round().long()
        corners = meeting[:, None] - CORNERS * sizes
        alone = (middle[:, None] - sizes / 2).round().long()
        used = draws.is_mosaic[:, None] | (torch.arange(4) == 0)
        return Layout(sources, used, sizes, torch.where(draws.is_mosaic[:, None, None], corners, alone))

    def _images(self, layout: Layout) -> torch.Tensor:
        """Pastes the pictures, uint8 [batch, 3, side, side]."""
        side, n = self.config.image_size, len(layout.sources)
        canvas = torch.full((n, 3, side, side), GRAY, dtype=torch.uint8)
        for row, *columns in zip(range(n), *(each.tolist() for each in layout), strict=True):
            for source, used, (width, height), (x, y) in zip(*columns, strict=True):
                left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, side), min(y + height, side)
                if used and left < right and top < bottom:
                    image = F.interpolate(
                        self.pictures.images[source][None], (height, width), mode="bilinear", antialias=True
                    )
                    canvas[row, :, top:bottom, left:right] = image[0, :, top - y : bottom - y, left - x : right - x]
        return canvas

    def _objects(self, layout: Layout) -> Targets:
        """Moves the boxes along, [batch, 4 · objects, …]."""
        side = self.config.image_size
        factors = layout.sizes / self.pictures.sizes[layout.sources]  # [batch, 4, 2]
        whole = self.pictures.boxes[layout.sources] * factors.repeat(1, 1, 2)[:, :, None]
        whole = (whole + layout.corners.repeat(1, 1, 2)[:, :, None]).flatten(1, 2)
        boxes = whole.clamp(0, side)
        sides, sides_before = boxes[..., 2:] - boxes[..., :2], whole[..., 2:] - whole[..., :2]
        share = sides.prod(-1) / sides_before.prod(-1).clamp(min=1e-9)
        valid = (self.pictures.valid[layout.sources] & layout.used[..., None]).flatten(1)
        valid &= (sides > SMALLEST_SIDE).all(-1) & (share > SMALLEST_SHARE)
        return Targets(self.pictures.labels[layout.sources].flatten(1), boxes, valid)

    def _mirrored(self, images: torch.Tensor, targets: Targets, draws: Draws) -> tuple[torch.Tensor, Targets]:
        """Mirrors left to right and top to bottom, then exchanges the axes of those that are turned."""
        side, boxes = self.config.image_size, targets.boxes
        for axis in (0, 1):
            chosen = draws.is_mirrored[:, axis]
            images = torch.where(chosen[:, None, None, None], images.flip(3 - axis), images)
            swapped = boxes.clone()
            swapped[..., axis], swapped[..., axis + 2] = side - boxes[..., axis + 2], side - boxes[..., axis]
            boxes = torch.where(chosen[:, None, None], swapped, boxes)
        if self.config.rotate:
            images = torch.where(draws.is_turned[:, None, None, None], images.mT, images)
            boxes = torch.where(draws.is_turned[:, None, None], boxes[..., [1, 0, 3, 2]], boxes)
        return images, targets._replace(boxes=boxes)

    def _colored(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Changes hue, saturation and brightness of images [batch, 3, side, side] in 0 … 255, as in HSV."""
        hue, saturation, brightness = (draws * torch.tensor(self._color_ranges())).view(-1, 3, 1, 1, 1).unbind(1)
        if self.config.hue:
            images = torch.einsum("bchw,bdc->bdhw", images, _hue_rotation(hue.flatten())).clamp_(0, 255)
        value = images.amax(1, keepdim=True)
        # The saturation, (value − least channel) / value, is at most 1.
        gain = torch.minimum(1 + saturation, value / (value - images.amin(1, keepdim=True)).clamp_(min=1e-6))
        return (value - (value - images) * gain).mul_(1 + brightness).clamp_(0, 255)

    def _color_ranges(self) -> tuple[float, float, float]:
        return 2 * torch.pi * self.config.hue, self.config.saturation, self.config.brightness


def _hue_rotation(angles: torch.Tensor) -> torch.Tensor:
    """Returns rotations of RGB about the gray axis by angles [batch], as matrices [batch, 3, 3]."""
    third, root = (1 - angles.cos()) / 3, angles.sin() / 3**0.5
    same, after, before = angles.cos() + third, third - root, third + root
    return torch.stack((same, after, before, before, same, after, after, before, same), -1).view(-1, 3, 3)


def _mixed(images: torch.Tensor, targets: Targets, chosen: torch.Tensor) -> tuple[torch.Tensor, Targets]:
    """Lets the picture before shine through the chosen ones (mixup, Zhang et al. 2018, with equal shares)."""
    mixed = torch.where(chosen[:, None, None, None], (images + images.roll(1, 0)) / 2, images)
    others = Targets(*(each.roll(1, 0) for each in targets))
    others = others._replace(valid=others.valid & chosen[:, None])
    return mixed, Targets(*(torch.cat(pair, 1) for pair in zip(targets, others, strict=True)))


def _compacted(targets: Targets) -> Targets:
    """Moves the valid rows of each picture to the front, and leaves out rows that are valid in none."""
    order = (~targets.valid).to(torch.uint8).argsort(dim=1, stable=True)[:, : max(int(targets.valid.sum(1).max()), 1)]
    return Targets(
        targets.labels.gather(1, order),
        targets.boxes.gather(1, order[..., None].expand(-1, -1, 4)),
        targets.valid.gather(1, order),
    )
