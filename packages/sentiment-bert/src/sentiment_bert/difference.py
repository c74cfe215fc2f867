"""Fine-tuned matrices stored as four-bit differences from the pretrained ones, which a file can then leave out.

Fine-tuning moves a weight by little, so that four bits of the difference keep what sixteen of the weight itself would
not (compare BitDelta, Liu et al. 2024, https://arxiv.org/abs/2402.10193, which keeps one). Each group of `GROUP`
weights of a row has a scale of its own: its largest difference over 7.
"""

import torch
from dlcommon.nlp.lora import LoRALinear
from torch import nn
from torch.nn import functional as F

GROUP = 32
LARGEST = 7


def quantize(difference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rounds a matrix [rows, columns] to four bits.

    Returns:
        Codes from 1 to 15 around 8, two in a byte, uint8 [rows, groups, GROUP / 2]; scales, float16 [rows, groups, 1].
    """
    rows, columns = difference.shape
    groups = difference.view(rows, columns // GROUP, GROUP)
    scales = (groups.abs().amax(dim=2, keepdim=True) / LARGEST).clamp(min=1e-7).half()
    codes = ((groups / scales.float()).round().clamp(-LARGEST, LARGEST) + 8).to(torch.uint8)
    low, high = codes[:, :, : GROUP // 2], codes[:, :, GROUP // 2 :]
    return low + 16 * high, scales


def dequantize(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Returns the matrix, float32 [rows, columns]."""
    # Without bit operations, which not every runtime folds: a byte is 16 · high + low.
    values = codes.float()
    high = torch.floor(values / 16)
    both = torch.cat((values - 16 * high, high), dim=2) - 8
    return (both * scales.float()).flatten(start_dim=1)


class DifferenceLinear(nn.Module):
    """Computes with W + D, where W is the pretrained matrix and D a four-bit difference.

    Args:
        tuned: the fine-tuned layer.
        pretrained: the same layer before.
    """

    codes: torch.Tensor
    scales: torch.Tensor

    def __init__(self, tuned: nn.Linear, pretrained: nn.Linear) -> None:
        super().__init__()
        self.base, self.bias = pretrained.requires_grad_(False), tuned.bias
        codes, scales = quantize(tuned.weight.detach() - pretrained.weight.detach())
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)

    @property
    def weight(self) -> torch.Tensor:
        """The matrix, [out_features, in_features]."""
        weight: torch.Tensor = self.base.weight + dequantize(self.codes, self.scales)
        return weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)


def store_differences(tuned: nn.Module, pretrained: nn.Module) -> None:
    """Replaces the fine-tuned linear layers inside a module by ones of four-bit differences from the pretrained."""
    for name, child in tuned.named_children():
        if isinstance(child, LoRALinear):  # its own change is small already
            continue
        before = getattr(pretrained, name)
        if not isinstance(child, nn.Linear):
            store_differences(child, before)
        elif not torch.equal(child.weight, before.weight):
            setattr(tuned, name, DifferenceLinear(child, before))
