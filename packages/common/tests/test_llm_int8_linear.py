import pytest
import torch
from bitsandbytes import functional as bnb
from dlcommon.llm.int8_linear import int8_linear, llm_int8_linear, outlier_features
from dlcommon.llm.quantization import quantize_absmax, quantize_zero_point
from torch.nn import functional as F

# bitsandbytes multiplies by 6.200124e-05 where 1/127² is 6.200012e-05.
CORRECTION = 1 / 127**2 / 6.200124e-05


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_outliers() -> torch.Tensor:
    x = random(20, 64).clamp(-3, 3)
    x[:, [5, 40]] = 20 + random(20, 2, seed=1)
    return x


def test_products_equal_those_of_bitsandbytes() -> None:
    x, weight = random(20, 64), random(9, 64, seed=2)
    codes, scales, _ = bnb.int8_vectorwise_quant(x)
    weight_codes, weight_scales, _ = bnb.int8_vectorwise_quant(weight)
    products = bnb.int8_linear_matmul(codes, weight_codes)
    expected = torch.ops.bitsandbytes.int8_mm_dequant(products, scales, weight_scales, torch.float32) * CORRECTION
    ours = quantize_absmax(weight, 8, "channel")
    assert torch.equal(ours.codes, weight_codes)
    torch.testing.assert_close(int8_linear(x, ours), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(int8_linear(x.view(4, 5, 64), ours), expected.view(4, 5, 9), rtol=1e-5, atol=1e-5)


def test_outliers_are_treated_as_in_bitsandbytes() -> None:
    x, weight = with_outliers(), random(9, 64, seed=2)
    weight_codes, weight_scales, _ = bnb.int8_vectorwise_quant(weight)
    codes, scales, outliers = bnb.int8_vectorwise_quant(x.clone(), threshold=6.0)
    assert outliers is not None
    assert outlier_features(x).nonzero().flatten().tolist() == outliers.tolist() == [5, 40]
    expected, _ = torch.ops.bitsandbytes.int8_mixed_scaled_mm(
        x, codes, weight_codes, scales, weight_scales, outliers, None
    )
    ours = llm_int8_linear(x, quantize_absmax(weight, 8, "channel"))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("activations", ["tensor", "token"])
@pytest.mark.parametrize("weights", ["tensor", "channel"])
def test_equals_the_product_of_the_dequantized(activations, weights) -> None:  # type: ignore[no-untyped-def]
    x, weight = random(20, 64), quantize_absmax(random(9, 64, seed=2), 8, weights)
    rounded = quantize_absmax(x, 8, "channel" if activations == "token" else "tensor").dequantize()
    torch.testing.assert_close(
        int8_linear(x, weight, activations), F.linear(rounded, weight.dequantize()), rtol=1e-4, atol=1e-4
    )


def test_sums_do_not_overflow() -> None:
    ones = torch.ones(1, 4096)
    assert int8_linear(ones, quantize_absmax(ones, 8, "channel")).item() == pytest.approx(4096)


def test_outliers_ruin_int8_and_decomposition_repairs_it() -> None:
    x, weight = with_outliers(), random(9, 64, seed=2)
    quantized, exact = quantize_absmax(weight, 8, "channel"), F.linear(x, weight)
    plain, mixed, full = (
        (output - exact).norm().item()
        for output in (
            int8_linear(x, quantized),
            llm_int8_linear(x, quantized),
            llm_int8_linear(x, quantized, full_weight=weight),
        )
    )
    assert full < plain / 5
    assert full < mixed


def test_weights_without_one_scale_for_each_output_are_refused() -> None:
    weight = random(9, 64)
    for quantized in (quantize_absmax(weight, 8, 32), quantize_zero_point(weight, 8, "channel")):
        with pytest.raises(ValueError, match="per tensor or per channel"):
            int8_linear(random(2, 64), quantized)
