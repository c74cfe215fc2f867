"""LoRA computes what peft computes, trains nothing but the adapters, and merges into plain layers."""

import dataclasses
from typing import Any

import peft
import pytest
import torch
from dlcommon.nlp.lora import (
    LoRAConfig,
    LoRALinear,
    add_lora,
    load_lora_state_dict,
    lora_disabled,
    lora_state_dict,
    merge_lora,
    unload_lora,
    unmerge_lora,
)
from dlcommon.transformer.encoder import TransformerEncoder
from torch import nn

CONFIG = LoRAConfig(rank=3, alpha=6, targets=("query_proj", "layers.1.feed_forward.*"))
NAMES = [
    "layers.0.self_attention.query_proj",
    "layers.1.self_attention.query_proj",
    "layers.1.feed_forward.up_proj",
    "layers.1.feed_forward.down_proj",
]


def encoder() -> TransformerEncoder:
    """Builds the same small encoder each time, in evaluation mode."""
    torch.manual_seed(0)
    return TransformerEncoder(dim=8, num_heads=2, feedforward_dim=12, num_layers=2, dropout=0.0).eval()


def features() -> torch.Tensor:
    """Draws features [batch, tokens, dim]."""
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))


def with_trained_adapters(config: LoRAConfig = CONFIG, seed: int = 2) -> TransformerEncoder:
    """Builds the encoder with adapters whose matrices are both random."""
    model = encoder()
    add_lora(model, config)
    generator = torch.Generator().manual_seed(seed)
    load_lora_state_dict(
        model, {name: torch.randn(matrix.shape, generator=generator) for name, matrix in lora_state_dict(model).items()}
    )
    return model


@pytest.mark.parametrize("rank_stabilized", [False, True])
def test_values_and_gradients_are_those_of_peft(rank_stabilized: bool) -> None:
    config = dataclasses.replace(CONFIG, rank_stabilized=rank_stabilized, dropout=0.25)
    ours = with_trained_adapters(config)
    theirs: Any = peft.inject_adapter_in_model(
        peft.LoraConfig(r=3, lora_alpha=6, target_modules=NAMES, use_rslora=rank_stabilized, lora_dropout=0.25),
        encoder(),
    )
    matrices = {
        name.replace(".lora_A.default.weight", ".lora_a").replace(".lora_B.default.weight", ".lora_b"): parameter
        for name, parameter in theirs.named_parameters()
        if "lora_" in name
    }
    state = lora_state_dict(ours)
    assert matrices.keys() == state.keys()
    with torch.no_grad():
        for name, matrix in matrices.items():
            matrix.copy_(state[name])

    outputs = []
    for model in (ours, theirs):
        model.train()
        torch.manual_seed(3)  # the dropout of both
        output, _ = model(features())
        output.square().sum().backward()
        outputs.append(output)
    torch.testing.assert_close(outputs[0], outputs[1])
    for name, parameter in ours.named_parameters():
        if name in matrices:
            torch.testing.assert_close(parameter.grad, matrices[name].grad)
        else:
            assert parameter.grad is None, name


def test_adapters_start_by_changing_nothing_and_stand_where_the_targets_say() -> None:
    model = encoder()
    before, _ = model(features())
    assert add_lora(model, CONFIG) == NAMES
    assert [name for name, module in model.named_modules() if isinstance(module, LoRALinear)] == NAMES
    assert not any(module.training for module in model.modules())
    torch.testing.assert_close(model(features())[0], before, rtol=0, atol=0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name}.{matrix}" for name in NAMES for matrix in ("lora_a", "lora_b")}


def test_matrices_start_in_the_range_of_pefts() -> None:
    linear = nn.Linear(6, 40)
    ours = LoRALinear(linear, LoRAConfig(rank=8, alpha=8, targets=("*",)))
    theirs: Any = peft.inject_adapter_in_model(peft.LoraConfig(r=8, target_modules=["0"]), nn.Sequential(linear))
    assert not ours.lora_b.any()
    assert not theirs[0].lora_B["default"].weight.any()
    bound = 6**-0.5  # 1 / √in_features
    for matrix in (ours.lora_a, theirs[0].lora_A["default"].weight):
        assert 0.8 * bound < matrix.abs().max() <= bound


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 0.05)])
def test_merging_keeps_the_outputs_and_can_be_taken_back(dtype: torch.dtype, tolerance: float) -> None:
    """In bfloat16 a weight keeps 8 bits, so that a merged one is rounded by up to 0.4 %; float32 rounds by 1e-7."""
    model = encoder().to(dtype)
    x = features().to(dtype)
    pretrained, _ = model(x)
    add_lora(model, CONFIG)
    assert all(matrix.dtype == torch.float32 for matrix in lora_state_dict(model).values())
    generator = torch.Generator().manual_seed(2)
    load_lora_state_dict(
        model, {n: 0.3 * torch.randn(m.shape, generator=generator) for n, m in lora_state_dict(model).items()}
    )
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted, _ = model(x)
    assert adapted.dtype == dtype
    assert (adapted - pretrained).norm() > 0.1 * pretrained.norm()
    for _ in range(2):  # merging twice adds the change once
        merge_lora(model)
    merged, _ = model(x)
    assert (merged - adapted).norm() <= tolerance * adapted.norm()
    unmerge_lora(model)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=tolerance)
    torch.testing.assert_close(model(x)[0], adapted, rtol=0, atol=2 * tolerance)


def test_merged_weights_are_those_of_peft_bit_for_bit_in_bfloat16() -> None:
    linear = nn.Linear(6, 5).to(torch.bfloat16)
    theirs: Any = peft.inject_adapter_in_model(
        peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0"]), nn.Sequential(linear)
    )
    theirs[0].lora_A.float(), theirs[0].lora_B.float()
    ours = LoRALinear(nn.Linear(6, 5).to(torch.bfloat16), LoRAConfig(2, 3, ("*",)))
    ours.base.load_state_dict(linear.state_dict())
    with torch.no_grad():
        ours.lora_b.normal_()
        theirs[0].lora_A["default"].weight.copy_(ours.lora_a)
        theirs[0].lora_B["default"].weight.copy_(ours.lora_b)
    ours.merge()
    theirs[0].merge()
    assert torch.equal(ours.base.weight, theirs[0].base_layer.weight)


def test_unloading_leaves_plain_layers_with_the_change_or_without_it() -> None:
    pretrained, _ = encoder()(features())
    for merge in (True, False):
        model = with_trained_adapters()
        adapted, _ = model(features())
        if merge:
            merge_lora(model)
        unload_lora(model)
        assert lora_state_dict(model) == {}
        assert model.state_dict().keys() == encoder().state_dict().keys()
        torch.testing.assert_close(model(features())[0], adapted if merge else pretrained)


def test_disabled_adapters_give_the_pretrained_network() -> None:
    model = with_trained_adapters()
    pretrained, adapted = encoder()(features())[0], model(features())[0]
    with lora_disabled(model):
        torch.testing.assert_close(model(features())[0], pretrained, rtol=0, atol=0)
    torch.testing.assert_close(model(features())[0], adapted, rtol=0, atol=0)
    merge_lora(model)
    with pytest.raises(ValueError, match="merged adapters cannot be disabled"), lora_disabled(model):
        pass
    with pytest.raises(ValueError, match="unmerge_lora"):
        load_lora_state_dict(model, lora_state_dict(model))


def test_merging_refuses_what_it_would_damage_and_changes_nothing() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5, bias=False))
    model[2].weight = model[0].weight  # as in most small language models
    add_lora(model, LoRAConfig(2, 4, ("1", "2")))
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"merging 2 would also change 0\.weight.*leave 2 out of the targets"):
        merge_lora(model)
    quantized = nn.Sequential(nn.Linear(3, 3))
    add_lora(quantized, LoRAConfig(2, 4, ("0",)))
    quantized.get_submodule("0.base").weight = nn.Parameter(torch.zeros(9, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match="the weights of 0 are quantized"):
        merge_lora(quantized)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_what_was_learned_is_restored_from_the_adapters_alone() -> None:
    trained = with_trained_adapters()
    state = lora_state_dict(trained)
    assert sum(matrix.numel() for matrix in state.values()) == 3 * (2 * (8 + 8) + 2 * (8 + 12))
    restored = encoder()
    add_lora(restored, CONFIG)
    load_lora_state_dict(restored, state)
    torch.testing.assert_close(restored(features())[0], trained(features())[0], rtol=0, atol=0)


def test_adapters_that_do_not_fit_are_refused_and_change_nothing() -> None:
    model = with_trained_adapters()
    before = {name: matrix.clone() for name, matrix in lora_state_dict(model).items()}
    other_rank, others = encoder(), encoder()
    add_lora(other_rank, dataclasses.replace(CONFIG, rank=2))
    add_lora(others, dataclasses.replace(CONFIG, targets=("query_proj",)))
    with pytest.raises(ValueError, match=r"\[2, 8\], but the network's is \[3, 8\]; .* rank"):
        load_lora_state_dict(model, lora_state_dict(other_rank))
    with pytest.raises(ValueError, match=r"one side only: .*layers\.1\.feed_forward\.down_proj\.lora_a"):
        load_lora_state_dict(model, lora_state_dict(others))
    for name, matrix in lora_state_dict(model).items():
        torch.testing.assert_close(matrix, before[name], rtol=0, atol=0)


def test_a_target_without_a_layer_and_adapters_on_adapters_are_refused() -> None:
    model = encoder()
    with pytest.raises(ValueError, match=r"target 'c_attn' names no linear layer; they are layers\.0\.self_att"):
        add_lora(model, dataclasses.replace(CONFIG, targets=("query_proj", "c_attn")))
    assert all(parameter.requires_grad for parameter in model.parameters())
    add_lora(model, CONFIG)
    with pytest.raises(ValueError, match="adapters already; call merge_lora"):
        add_lora(model, CONFIG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "rank must be at least 1, not 0"),
        ({"alpha": 0.0}, "alpha must be positive, not 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"targets": ()}, "targets must be names of linear layers"),
        ({"targets": "query_proj"}, "not 'query_proj'"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


@pytest.mark.parametrize("bias", [True, False])
def test_the_fused_training_step_has_the_values_and_gradients_of_the_plain_one(bias: bool) -> None:
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(6, 5, bias=bias, dtype=torch.float64), LoRAConfig(2, 3.0, ("*",)))
    nn.init.normal_(layer.lora_b)
    x = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    output, scale = layer(x), torch.randn(2, 4, 5, dtype=torch.float64)
    expected = layer.adapt(x, layer.base(x))
    torch.testing.assert_close(output, expected)
    inputs = (x, layer.lora_a, layer.lora_b)
    wanted = torch.autograd.grad((expected * scale).sum(), inputs)
    for got, want in zip(torch.autograd.grad((output * scale).sum(), inputs), wanted, strict=True):
        torch.testing.assert_close(got, want)
    assert type(output.grad_fn).__name__ == "_FusedLoRABackward"


def test_layers_that_the_fused_step_does_not_compute_take_the_plain_one() -> None:
    x = torch.randn(3, 6)

    def graph(layer: LoRALinear, x: torch.Tensor = x) -> str:
        return type(layer(x).grad_fn).__name__

    def layer(dropout: float = 0.0) -> LoRALinear:
        return LoRALinear(nn.Linear(6, 5), LoRAConfig(2, 3.0, ("*",), dropout=dropout))

    assert graph(layer()) == "_FusedLoRABackward"
    assert graph(layer(dropout=0.5)) != "_FusedLoRABackward"
    assert graph(layer(dropout=0.5).eval()) == "_FusedLoRABackward"
    half = LoRALinear(nn.Linear(6, 5).to(torch.bfloat16), LoRAConfig(2, 3.0, ("*",)))
    unfrozen = layer()
    unfrozen.base.requires_grad_(True)
    assert graph(unfrozen) != "_FusedLoRABackward"
    with torch.autocast("cpu", torch.bfloat16):
        assert graph(layer()) != "_FusedLoRABackward"
        assert graph(half, x.bfloat16()) == "_FusedLoRABackward"  # autocast has nothing to cast
    with torch.no_grad():
        assert graph(layer()) == "NoneType"


def test_bfloat16_weights_keep_adapters_and_their_gradients_in_float32() -> None:
    torch.manual_seed(0)
    exact = LoRALinear(nn.Linear(64, 48), LoRAConfig(4, 8.0, ("*",)))
    nn.init.normal_(exact.lora_b, std=0.1)
    half = LoRALinear(nn.Linear(64, 48).to(torch.bfloat16), LoRAConfig(4, 8.0, ("*",)))
    half.load_state_dict(exact.state_dict())
    x = torch.randn(20, 64)
    wanted = torch.autograd.grad(exact(x).square().sum(), (exact.lora_a, exact.lora_b))
    got = torch.autograd.grad(half(x.bfloat16()).float().square().sum(), (half.lora_a, half.lora_b))
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.02 * other.norm()


def test_a_single_vector_gives_what_a_batch_of_one_gives() -> None:
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(4, 3), LoRAConfig(2, 2, ("*",)))
    nn.init.normal_(layer.lora_b)
    x = torch.randn(4)
    torch.testing.assert_close(layer(x), layer(x[None])[0])
    layer(x).square().sum().backward()
    alone, layer.lora_a.grad = layer.lora_a.grad, None
    layer(x[None]).square().sum().backward()
    torch.testing.assert_close(layer.lora_a.grad, alone)
