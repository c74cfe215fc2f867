"""The page: a picture in; five bars, the evidence in the picture and the time taken out."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from dlcommon.runtime.evaluation.figures import heat_overlay
from dlcommon.runtime.serving.images import decode_image
from dlcommon.runtime.serving.theme import page_frame
from dlcommon.runtime.text import Text

if TYPE_CHECKING:
    from cifar10_resnet.service import Classification, Picture, PictureService

SHOWN = 320
"""Pixels of the square that the evidence is drawn on."""

CHINESE = {
    "airplane": "飞机", "automobile": "汽车", "bird": "鸟", "cat": "猫", "deer": "鹿",
    "dog": "狗", "frog": "青蛙", "horse": "马", "ship": "船", "truck": "卡车",
}  # fmt: skip


def shown_label(label: str) -> str:
    return f"{label} · {CHINESE[label]}" if label in CHINESE else label
