"""GPTQ: rounds a layer's weights so that its outputs on real inputs change least (Frantar et al. 2022).

Rounding to nearest makes each weight's error small. What counts is the error of the output, ‖W X − Ŵ X‖², and there the
errors of weights whose inputs are correlated can cancel. GPTQ (https://arxiv.org/abs/2210.17323) rounds the weights of
one input after the other, and lets the weights of the inputs that are still to come make up for the error.
"""

import torch

from dlcommon.llm.quantization import Granularity, QuantizedTensor, absmax_scale, as_groups


def input_hessian(inputs: torch.Tensor) -> torch.Tensor:
    """Computes the Hessian of the output's squared error with respect to one row of the weights, 2 XᵀX / samples.

    It is the same for all rows, since each output has its own weights but all have the same inputs.

    Args:
        inputs: what the layer receives on calibration data, [..., in_features].

    Returns:
        float64 [in_features, in_features].
    """
    x = inputs.flatten(end_dim=-2).double()  # [samples, in_features]
    return 2 * x.T @ x / len(x)


def gptq(
    weight: torch.Tensor, hessian: torch.Tensor, bits: int, granularity: Granularity = "channel", damping: float = 0.01
) -> QuantizedTensor:
    """Quantizes the weights of a linear layer by absmax, column by column with error feedback (algorithm 1).

    Args:
        weight: [out_features, in_features].
        hessian: of `input_hessian`.
        bits: 2 to 8.
        granularity: what shares a scale. A group's scale is taken when its first column's turn comes, from the weights
            as they are by then; those of the tensor or of channels at the start.
        damping: fraction of the diagonal's mean that is added to the diagonal, so that it can be inverted where
            inputs are constant or collinear.

    Returns:
        Codes and scales as of `quantize_absmax`.

    Raises:
        ValueError: as of `quantize_absmax`; or `hessian` does not fit the weights.
    """
    rows, columns = weight.shape
    if hessian.shape != (columns, columns):
        raise ValueError(f"the Hessian of {columns} inputs is [{columns}, {columns}], not {list(hessian.shape)}")
    left = weight.double().clone()  # columns to come carry the corrections
    scales = absmax_scale(as_groups(left, granularity), bits)  # [groups, 1]; checks the arguments
    group_size = granularity if isinstance(granularity, int) else columns
    scales = scales.expand(rows, 1).clone() if granularity == "tensor" else scales.view(rows, -1)  # [rows, groups]
    factor = _inverse_factor(hessian, damping)
    largest = 2 ** (bits - 1) - 1
    codes = torch.empty(rows, columns, dtype=torch.int8)
    for column in range(columns):
        group = column // group_size
        if isinstance(granularity, int) and column % group_size == 0:
            scales[:, group] = absmax_scale(left[:, column : column + group_size], bits).squeeze(1)
        scale = scales[:, group]
        code = (left[:, column] / scale).round().clamp(-largest, largest)
        codes[:, column] = code.to(torch.int8)
        # Over its diagonal, this row of the factor says by how much the weights to come must change.
        error = (left[:, column] - scale * code) / factor[column, column]  # [rows]
        left[:, column:] -= error[:, None] * factor[column, column:]
    if granularity == "tensor":
        scales = scales[:1]
    return QuantizedTensor(
        as_groups(codes, granularity), scales.reshape(-1, 1).to(weight.dtype), None, weight.shape, bits
    )


def _inverse_factor(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """Computes the upper Cholesky factor U of the damped inverse, H⁻¹ = UᵀU.

    Row j of U over its diagonal entry equals the first row of (H without the inputs before j)⁻¹ over its first entry.
    That is what GPTQ needs at step j, so all steps are served without inverting again and again.
    """
    damped = hessian.double() + damping * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: torch.Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor
