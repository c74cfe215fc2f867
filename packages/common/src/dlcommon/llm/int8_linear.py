"""Linear layers whose products are computed with 8-bit integers, after LLM.int8() (Dettmers et al. 2022).

Weights do not change and can be quantized with care; activations are quantized on the fly, and large language models
have a few features whose activations are many times larger than all others, in almost every token. LLM.int8()
(https://arxiv.org/abs/2208.07339) takes these few out and multiplies them in full precision.
"""

from typing import Literal

import torch

from dlcommon.llm.quantization import QuantizedTensor, quantize_absmax


def int8_linear(
    x: torch.Tensor, weight: QuantizedTensor, activations: Literal["tensor", "token"] = "token"
) -> torch.Tensor:
    """Computes x Wᵀ from 8-bit codes: products of integers are summed exactly, and scaled once.

    A scale can be taken out of a sum over the input features if it is the same for all of them. So activations may have
    one for each token and weights one for each output, but neither can have one for each input feature.

    Args:
        x: [..., in_features].
        weight: [out_features, in_features], of `quantize_absmax(…, bits=8)`, per tensor or per channel.
        activations: what shares a scale.

    Returns:
        [..., out_features].

    Raises:
        ValueError: `weight` has groups along its input features, or zero points.
    """
    out_features, in_features = weight.shape
    if weight.zero_point is not None or weight.codes.numel() // weight.scale.numel() < in_features:
        raise ValueError("integer products need weights of quantize_absmax, per tensor or per channel")
    rows = x.reshape(-1, in_features)  # [tokens, in_features]
    quantized = quantize_absmax(rows, 8, "channel" if activations == "token" else "tensor")
    codes = quantized.codes.view(rows.shape)
    # A product of codes is below 2¹⁴: hardware sums them in int32. torch has no fast matmul of int32 on CPUs; float64
    # holds the same integers exactly.
    sums = codes.double() @ weight.codes.view(weight.shape).double().T  # [tokens, out_features]
    output = sums.to(x.dtype) * (quantized.scale * weight.scale.T)  # [tokens or 1, 1] · [1, out_features or 1]
    return output.view(*x.shape[:-1], out_features)


def outlier_features(x: torch.Tensor, threshold: float = 6.0) -> torch.Tensor:
    """Finds the features that reach a magnitude of `threshold` in any token: [..., features] to bool [features]."""
    return (x.abs() >= threshold).flatten(end_dim=-2).any(dim=0)


def llm_int8_linear(
    x: torch.Tensor, weight: QuantizedTensor, threshold: float = 6.0, full_weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Computes x Wᵀ with outlier features in full precision and all others in 8 bits (LLM.int8(), section 3.2).

    Args:
        x: [..., in_features].
        weight: as of `int8_linear`.
        threshold: of `outlier_features`.
        full_weight: [out_features, in_features], from which the outliers' columns are taken, as the paper describes. If
            `None`, they are dequantized from `weight`, as in bitsandbytes, which stores nothing else.

    Returns:
        [..., out_features].
    """
    outliers = outlier_features(x, threshold)
    columns = (weight.dequantize() if full_weight is None else full_weight)[:, outliers]
    return int8_linear(x.masked_fill(outliers, 0.0), weight) + x[..., outliers] @ columns.T
