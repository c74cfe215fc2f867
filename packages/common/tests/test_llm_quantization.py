import pytest
import torch
from dlcommon.llm.quantization import (
    Granularity,
    absmax_scale,
    as_groups,
    fake_quantize,
    quantize_absmax,
    quantize_zero_point,
)

BITS = (2, 3, 4, 8)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", BITS)
def test_absmax_equals_torchs_fake_quantization(bits: int) -> None:
    x, largest = random(6, 32) + 0.3, 2 ** (bits - 1) - 1
    whole = quantize_absmax(x, bits)
    expected = torch.fake_quantize_per_tensor_affine(x, whole.scale.item(), 0, -largest, largest)
    torch.testing.assert_close(whole.dequantize(), expected)
    assert whole.scale.item() == pytest.approx(x.abs().max().item() / largest)
    rows = quantize_absmax(x, bits, "channel")
    zeros = torch.zeros(6, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(x, rows.scale.flatten(), zeros, 0, -largest, largest)
    torch.testing.assert_close(rows.dequantize(), expected)


@pytest.mark.parametrize("bits", BITS)
def test_zero_point_equals_torchs_fake_quantization(bits: int) -> None:
    x, largest = random(6, 32).abs() - 0.3, 2**bits - 1
    rows = quantize_zero_point(x, bits, "channel")
    assert rows.zero_point is not None
    expected = torch.fake_quantize_per_channel_affine(
        x, rows.scale.flatten(), rows.zero_point.flatten().int(), 0, 0, largest
    )
    torch.testing.assert_close(rows.dequantize(), expected)
    spread = x.amax(dim=1) - x.amin(dim=1).clamp(max=0)
    torch.testing.assert_close(rows.scale.flatten(), spread / largest)


@pytest.mark.parametrize("quantize", [quantize_absmax, quantize_zero_point])
@pytest.mark.parametrize("granularity", ["tensor", "channel", 8])
def test_the_error_is_at_most_half_a_step_and_one_step_at_the_ends(quantize, granularity: Granularity) -> None:  # type: ignore[no-untyped-def]
    x = random(4, 32) * torch.tensor([[0.1], [1.0], [10.0], [0.0]])
    quantized = quantize(x, 4, granularity)
    found = quantized.dequantize()
    assert found.shape == x.shape
    error = as_groups((found - x).abs(), granularity) / quantized.scale
    assert error.max() <= (0.5 if quantize is quantize_absmax else 1.0) + 1e-5
    assert not found[3].any()  # zeros stay zeros


def test_groups_of_a_row_have_scales_of_their_own() -> None:
    x = torch.tensor([[1.0, -7.0, 0.1, 0.7], [0.0, 0.0, 14.0, 3.0]])
    quantized = quantize_absmax(x, 4, 2)
    assert quantized.scale.flatten().tolist() == pytest.approx([1.0, 0.1, 1.0, 2.0])
    assert quantized.codes.tolist() == [[1, -7], [1, 7], [0, 0], [7, 2]]  # 1.5 goes to the even neighbor


def test_zero_has_a_code_of_its_own() -> None:
    x = torch.tensor([[0.0, 0.31, 0.77, 1.9], [-5.1, -2.0, -1.0, -0.4]])
    for bits in BITS:
        quantized = quantize_zero_point(x, bits, "channel")
        assert quantized.dequantize()[0, 0] == 0
        assert quantized.zero_point is not None
        assert quantized.zero_point.flatten().tolist() == [0, 2**bits - 1]  # one-sided: all codes on that side


def test_bits_per_weight_count_scales_and_zero_points() -> None:
    x = random(8, 64)
    assert quantize_absmax(x, 4, 32).bits_per_weight() == 4 + 16 / 32
    assert quantize_zero_point(x, 4, 32).bits_per_weight() == 4 + (16 + 4) / 32
    assert quantize_absmax(x, 8).bits_per_weight(32) == 8 + 32 / 512


def test_what_cannot_be_quantized_is_refused() -> None:
    with pytest.raises(ValueError, match="bits must be 2 to 8, not 1"):
        quantize_absmax(random(2, 4), 1)
    with pytest.raises(ValueError, match="rows of 4 cannot be cut into groups of 3; choose a divisor"):
        quantize_absmax(random(2, 4), 4, 3)
    for quantize in (quantize_absmax, quantize_zero_point):
        with pytest.raises(ValueError, match="infinite or NaN"):
            quantize(torch.tensor([[1.0, torch.nan]]), 4)


@pytest.mark.parametrize("shared", ["tensor", "channel"])
def test_fake_quantization_equals_torchs_in_value_and_gradient(shared: str) -> None:
    x = (3 * random(5, 40)).requires_grad_()
    scale = torch.tensor([[0.2], [0.3], [0.1], [0.5], [1.0]]) if shared == "channel" else torch.tensor(0.3)
    zero_point = torch.tensor([[3], [8], [0], [15], [7]]) if shared == "channel" else torch.tensor(6)
    ours = fake_quantize(x, scale, zero_point, 0, 15)
    if shared == "channel":
        theirs = torch.fake_quantize_per_channel_affine(x, scale.flatten(), zero_point.flatten().int(), 0, 0, 15)
    else:
        theirs = torch.fake_quantize_per_tensor_affine(x, 0.3, 6, 0, 15)
    torch.testing.assert_close(ours, theirs)
    upstream = random(5, 40, seed=1)
    mine, reference = (torch.autograd.grad(output, x, upstream)[0] for output in (ours, theirs))
    torch.testing.assert_close(mine, reference)
    assert (mine == 0).any()  # some were clamped
    assert (mine == upstream).any()


def test_a_fake_quantized_weight_is_the_quantized_one() -> None:
    x = random(4, 16)
    quantized = quantize_absmax(x, 4, "channel")
    torch.testing.assert_close(
        fake_quantize(x, absmax_scale(x, 4), torch.zeros(()), -7, 7), quantized.dequantize(), rtol=0, atol=0
    )
