"""Training small networks briefly and all in the same way, so that what differs is the architecture.

Shapes: images [batch, channels, height, width], labels [batch].
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.training.schedules import warmup_linear  # placeholder


def fit(*a): ...
