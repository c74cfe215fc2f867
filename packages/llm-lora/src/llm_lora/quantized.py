"""A base of four bits a weight, as in QLoRA (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314)."""

import torch
from bitsandbytes.autograd._functions import matmul_4bit
from bitsandbytes.functional import quantize_4bit
from dlcommon.llm.llama import Llama
from dlcommon.llm.nf4 import quantize_nf4
from dlcommon.runtime.errors import UsageError
from torch import nn

BLOCK = 64
"""Weights that share a scale."""


class NF4Linear(nn.Linear):
    """Computes W x + b, where W is held as NF4 with doubly quantized scales and dequantized in each pass.

    Args:
        linear: the layer to quantize, on the device on which it will compute.

    Raises:
        ValueError: a row of W is no multiple of a block, which the CPU kernels of bitsandbytes dequantize wrongly.
    """

    def __init__(self, linear: nn.Linear) -> None:
        if linear.in_features % BLOCK:
            raise ValueError(f"rows of {linear.in_features} weights cannot be cut into blocks of {BLOCK}")
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        packed, self.state = quantize_4bit(
            linear.weight.detach().contiguous(), blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
        )
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [..., in_features] to [..., out_features], in the dtype of `x`."""
        output: torch.Tensor = matmul_4bit(x, self.weight.t(), self.state, bias=self.bias)
        return output


def _linears(network: Llama) -> dict[str, nn.Linear]:
    """Finds the linear layers of the blocks; embeddings and the output layer stay as they are."""
    modules = network.model.layers.named_modules()
    return {f"model.layers.{name}": module for name, module in modules if isinstance(module, nn.Linear)}


def quantize_base(network: Llama) -> None:
    """Replaces the linear layers of the blocks by layers of four bits a weight.

    Raises:
        UsageError: the widths of this network do not suit.
    """
    for name, linear in _linears(network).items():
        try:
            network.set_submodule(name, NF4Linear(linear))
        except ValueError as error:
            raise UsageError(f"--quantize nf4: {name}: {error}") from error


@torch.no_grad()
def round_base(network: Llama) -> None:
    """Rounds the weights that `quantize_base` quantizes to the values that they have there, in float32."""
    for linear in _linears(network).values():
        linear.weight.copy_(quantize_nf4(linear.weight, BLOCK, double_quantization=True).dequantize())
