"""Training pictures of any size in memory, with their boxes as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from dlcommon.runtime.data.detection import AnnotatedImage

from yolo_detector.letterbox import resize, scaled_size


@dataclass(frozen=True)
class Pictures:
    """Holds pictures, and their objects padded to one number; see `pack`."""

    images: list[torch.Tensor]
    """Of each picture, uint8 [3, height, width], channels last in memory."""
    sizes: torch.Tensor
    """int64 [pictures, 2]: width and height of each."""
    labels: torch.Tensor
    """int64 [pictures, objects]."""
    boxes: torch.Tensor
    """float32 [pictures, objects, 4]: left, top, right, bottom in pixels."""
    valid: torch.Tensor
    """bool [pictures, objects]: False where a row is padding."""

    def __len__(self) -> int:
        return len(self.images)


def pack(samples: Sequence[AnnotatedImage], longest: int) -> Pictures:
    """Takes pictures into memory, those with a longer side beyond `longest` pixels shrunk to it."""
    images, sizes, boxes = [], [], []
    for sample in samples:
        height, width = sample.image.shape[:2]
        size = (width, height) if max(width, height) <= longest else scaled_size(width, height, longest)
        images.append(torch.from_numpy(np.array(resize(sample.image, *size))).permute(2, 0, 1))
        sizes.append(size)
        boxes.append(sample.boxes * np.array([size[0] / width, size[1] / height] * 2, np.float32))
    most = max((len(each) for each in boxes), default=0)
    padded = np.zeros((len(samples), most, 4), np.float32)
    labels, valid = np.zeros((len(samples), most), np.int64), np.zeros((len(samples), most), bool)
    for row, (sample, each) in enumerate(zip(samples, boxes, strict=True)):
        padded[row, : len(each)], labels[row, : len(each)], valid[row, : len(each)] = each, sample.labels, True
    return Pictures(
        images, torch.tensor(sizes), torch.from_numpy(labels), torch.from_numpy(padded), torch.from_numpy(valid)
    )
