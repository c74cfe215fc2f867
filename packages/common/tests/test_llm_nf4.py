import pytest
import torch
from bitsandbytes import functional as bnb
from dlcommon.llm.nf4 import (
    QuantizedScales,
    dequantize_blockwise,
    dynamic_levels,
    nf4_levels,
    quantize_blockwise,
    quantize_nf4,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_levels_are_those_of_bitsandbytes() -> None:
    assert torch.equal(nf4_levels(), bnb.get_4bit_type("nf4", "cpu"))  # type: ignore[no-untyped-call]
    assert torch.equal(dynamic_levels(), bnb.create_dynamic_map())  # type: ignore[no-untyped-call]
    assert nf4_levels()[7] == 0


# In rows of 96 with blocks of 64, bitsandbytes 0.50 dequantizes wrongly on CPUs with AVX-512, so that is not compared.
@pytest.mark.parametrize("shape", [(64, 128), (7, 64), (3, 30), (1, 5)])
@pytest.mark.parametrize("block_size", [32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_codes_scales_and_numbers_equal_those_of_bitsandbytes(
    shape: tuple[int, ...], block_size: int, dtype: torch.dtype
) -> None:
    x = random(*shape).to(dtype)
    x[-1, -1] = 0.0
    ours = quantize_nf4(x, block_size)
    packed, state = bnb.quantize_4bit(x, blocksize=block_size, quant_type="nf4")
    assert torch.equal(ours.packed, packed.flatten())
    assert isinstance(ours.scales, torch.Tensor)
    torch.testing.assert_close(ours.scales, state.absmax.float(), rtol=0, atol=0)
    torch.testing.assert_close(ours.dequantize().to(dtype), bnb.dequantize_4bit(packed, state), rtol=1e-6, atol=1e-7)
    assert ours.num_bytes() == packed.nbytes + 4 * ours.scales.numel()


def test_double_quantization_is_that_of_bitsandbytes() -> None:
    x = random(300, 64) * random(300, 1, seed=1).exp()
    ours = quantize_nf4(x, 64, double_quantization=True)
    packed, state = bnb.quantize_4bit(x, blocksize=64, quant_type="nf4", compress_statistics=True)
    assert torch.equal(ours.packed, packed.flatten())
    scales = ours.scales
    assert isinstance(scales, QuantizedScales)
    torch.testing.assert_close(scales.mean, state.offset)
    torch.testing.assert_close(scales.absmax, state.state2.absmax)
    # Ours are the nearest levels. On a CPU bitsandbytes searches coarsely, and may take the second nearest of two that
    # are all but equally near.
    apart = scales.indices != state.absmax
    assert apart.double().mean() < 0.01
    plain = quantize_nf4(x, 64).scales
    assert isinstance(plain, torch.Tensor)
    theirs = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    assert ((scales.dequantize() - plain).abs() <= (theirs - plain).abs() + 1e-6).all()
    torch.testing.assert_close(scales.dequantize()[~apart], theirs[~apart])
    # bitsandbytes reads what we have written.
    state.absmax = scales.indices
    torch.testing.assert_close(bnb.dequantize_4bit(packed, state), ours.dequantize(), rtol=1e-6, atol=1e-6)


def test_double_quantization_costs_what_the_paper_says() -> None:
    x = random(256, 256)
    assert 8 * quantize_nf4(x).num_bytes() / x.numel() == 4.5
    doubled = 8 * quantize_nf4(x, double_quantization=True).num_bytes() / x.numel()
    assert doubled == 4 + 8 / 64 + 32 / (64 * 256) + 32 / x.numel()  # the last is the mean


def test_blocks_of_zeros_and_the_ends_of_blocks_are_exact() -> None:
    x = torch.zeros(4, 64)
    x[1, 3], x[2, 5], x[3, :2] = 2.5, -1e-30, torch.tensor([-3.0, 3.0])
    for double in (False, True):
        found = quantize_nf4(x, 64, double).dequantize()
        assert found.isfinite().all()
        assert not found[0].any()
    torch.testing.assert_close(quantize_nf4(x, 64).dequantize(), x, rtol=1e-6, atol=0)


def test_blocks_run_across_the_ends_of_rows() -> None:
    x = random(64, 96)
    torch.testing.assert_close(
        quantize_nf4(x).dequantize(), quantize_nf4(x.view(-1, 64)).dequantize().view(64, 96), rtol=0, atol=0
    )


def test_every_number_gets_its_nearest_level() -> None:
    x = random(500)
    indices, absmax = quantize_blockwise(x, nf4_levels(), 100)
    normalized = x / absmax.repeat_interleave(100)
    nearest = (normalized[:, None] - nf4_levels()).abs().argmin(dim=1)
    assert torch.equal(indices.long(), nearest)
    assert indices.unique().numel() == 16
    found = dequantize_blockwise(indices, absmax, nf4_levels(), 100)
    torch.testing.assert_close(found, nf4_levels()[nearest] * absmax.repeat_interleave(100))


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="infinite or NaN"):
        quantize_nf4(torch.tensor([1.0, torch.inf]))
