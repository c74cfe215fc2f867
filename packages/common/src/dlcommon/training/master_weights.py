"""Master weights: fp32 copies of weights that are stored in 16 bits (Micikevicius et al. 2018, section 3.1).

An update that is less than half the distance to the next number of the format is lost when it is added. The copies
gather such updates until they count.
"""

from collections.abc import Iterable

import torch
from torch import nn


class MasterWeights:
    """Lets an optimizer update fp32 copies of a network's low-precision parameters.

    Give `self.parameters` to the optimizer, and call `take_gradients` before each step and `write` after it.

    Args:
        parameters: of the network, in fp16 or bf16; those that require no gradient are left out.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.low = [parameter for parameter in parameters if parameter.requires_grad]
        self.parameters = [nn.Parameter(parameter.detach().float()) for parameter in self.low]

    def take_gradients(self) -> None:
        """Moves the network's gradients to the copies, in fp32; the network has none afterwards."""
        for low, master in zip(self.low, self.parameters, strict=True):
            master.grad = None if low.grad is None else low.grad.float()
            low.grad = None

    @torch.no_grad()
    def write(self) -> None:
        """Rounds the copies into the network's parameters."""
        for low, master in zip(self.low, self.parameters, strict=True):
            low.copy_(master)
