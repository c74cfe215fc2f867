import pytest
import torch
from dlcommon.llm.gptq import gptq, input_hessian
from dlcommon.llm.quantization import Granularity, absmax_scale, as_groups, quantize_absmax

ROWS, COLUMNS, SAMPLES = 5, 12, 200


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated_inputs() -> torch.Tensor:
    return random(SAMPLES, 4) @ random(4, COLUMNS, seed=1) + 0.3 * random(SAMPLES, COLUMNS, seed=2)


def slow_gptq(
    weight: torch.Tensor, hessian: torch.Tensor, bits: int, granularity: Granularity, damping: float
) -> torch.Tensor:
    """Quantizes row by row, and inverts the Hessian of the remaining weights anew at each step (equation 2)."""
    hessian = hessian + damping * hessian.diagonal().mean() * torch.eye(COLUMNS, dtype=torch.float64)
    largest, result = 2 ** (bits - 1) - 1, torch.empty_like(weight)
    fixed = absmax_scale(as_groups(weight, granularity), bits)
    for row in range(ROWS):
        left = weight[row].clone()
        for column in range(COLUMNS):
            if not isinstance(granularity, int):
                scale = fixed[row if granularity == "channel" else 0, 0]
            elif column % granularity == 0:
                scale = left[column : column + granularity].abs().max() / largest
            inverse = torch.linalg.inv(hessian[column:, column:])
            rounded = scale * (left[column] / scale).round().clamp(-largest, largest)
            result[row, column] = rounded
            left[column:] -= (left[column] - rounded) / inverse[0, 0] * inverse[0]
    return result


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("granularity", ["tensor", "channel", 4])
def test_equals_the_slow_reference(bits: int, granularity: Granularity) -> None:
    weight, hessian = random(ROWS, COLUMNS, seed=3), input_hessian(correlated_inputs())
    found = gptq(weight, hessian, bits, granularity)
    torch.testing.assert_close(
        found.dequantize(), slow_gptq(weight, hessian, bits, granularity, 0.01), rtol=1e-8, atol=1e-10
    )
    assert found.codes.abs().max() <= 2 ** (bits - 1) - 1
    assert found.scale.shape == quantize_absmax(weight, bits, granularity).scale.shape


def test_the_hessian_is_that_of_the_outputs_error() -> None:
    x, row = correlated_inputs(), random(COLUMNS, seed=4)
    found = torch.autograd.functional.hessian(lambda w: (x @ (w - row)).square().mean(), torch.zeros_like(row))
    torch.testing.assert_close(input_hessian(x), found)
    torch.testing.assert_close(input_hessian(x.view(10, 20, COLUMNS)), input_hessian(x))


def test_a_correction_is_the_least_squares_solution() -> None:
    """With one weight rounded, the others are what minimizes the output's error."""
    x, weight = correlated_inputs(), random(1, COLUMNS, seed=3)
    first = quantize_absmax(weight, 3).dequantize()[:, :1]
    rest = torch.linalg.lstsq(x[:, 1:], x @ weight.T - x[:, :1] @ first.T).solution.T  # [1, columns - 1]
    inverse = torch.linalg.inv(input_hessian(x))
    by_formula = weight[:, 1:] - (weight[:, :1] - first) / inverse[0, 0] * inverse[0, 1:]
    torch.testing.assert_close(by_formula, rest, rtol=1e-8, atol=1e-10)


def test_uncorrelated_inputs_leave_rounding_to_nearest() -> None:
    weight = random(ROWS, COLUMNS, seed=3)
    hessian = torch.diag(torch.arange(1.0, COLUMNS + 1))
    assert torch.equal(gptq(weight, hessian, 4).codes, quantize_absmax(weight, 4, "channel").codes)


def test_the_outputs_error_is_smaller_than_with_rounding() -> None:
    x, weight = correlated_inputs(), random(64, COLUMNS, seed=3)
    for bits in (2, 3, 4):
        found, rounded = gptq(weight, input_hessian(x), bits), quantize_absmax(weight, bits, "channel")
        ours, theirs = ((x @ (each.dequantize() - weight).T).norm() for each in (found, rounded))
        assert ours < 0.8 * theirs


def test_inputs_that_are_always_zero_do_not_stop_it() -> None:
    x = correlated_inputs()
    x[:, 2] = 0.0
    assert gptq(random(ROWS, COLUMNS), input_hessian(x), 4).dequantize().isfinite().all()


def test_a_hessian_of_another_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the Hessian of 12 inputs is \[12, 12\], not \[3, 3\]"):
        gptq(random(ROWS, COLUMNS), torch.eye(3), 4)
