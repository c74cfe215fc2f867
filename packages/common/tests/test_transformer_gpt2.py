"""GPT-2 against transformers' with the same weights."""

import pytest
import torch
import transformers
from dlcommon.transformer.gpt2 import GPT2, GPT2_SIZES, GPT2Block, GPT2Config, from_transformers
from torch.nn import functional as F

CONFIG = GPT2Config(vocab_size=13, context_length=16, num_layers=3, num_heads=2, dim=8)


def reference_model() -> transformers.GPT2LMHeadModel:
    """A model of transformers in float64. All its weights are random, so that none goes uncopied unnoticed."""
    config = transformers.GPT2Config(
        vocab_size=13, n_positions=16, n_layer=3, n_head=2, n_embd=8, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    model.train(False)
    return model.double()


def same_weights(reference: transformers.GPT2LMHeadModel) -> GPT2:
    model = GPT2(CONFIG).double()
    model.load_transformers(reference.state_dict())
    return model.eval()


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(CONFIG.vocab_size, (batch, length), generator=torch.Generator().manual_seed(1))


def test_logits_and_all_gradients_are_transformers() -> None:
    reference = reference_model()
    model, text = same_weights(reference), tokens(4, 16)
    logits, expected_logits = model(text), reference(text).logits
    torch.testing.assert_close(logits, expected_logits, rtol=1e-9, atol=1e-9)
    for each in (logits, expected_logits):
        F.cross_entropy(each[:, :-1].flatten(0, 1), text[:, 1:].flatten()).backward()
    expected = from_transformers({name: p.grad for name, p in reference.named_parameters() if p.grad is not None})
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 1e-6 or name.endswith("key_proj.bias"), name  # the softmax ignores that bias
        torch.testing.assert_close(found[name], gradient, rtol=1e-8, atol=1e-9, msg=name)


def test_features_are_transformers_last_hidden_states() -> None:
    reference = reference_model()
    text = tokens(2, 9)
    expected = reference(text, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(same_weights(reference).features(text)[0], expected, rtol=1e-9, atol=1e-9)


def test_step_by_step_is_the_whole_text_at_once() -> None:
    model, text = same_weights(reference_model()), tokens(3, 12)
    cache, found = model.initial_state(3), []
    for start, end in ((0, 4), (4, 5), (5, 6), (6, 12)):
        logits, cache = model.step(text[:, start:end], torch.full((3,), start), cache)
        found.append(logits)
    torch.testing.assert_close(torch.cat(found, dim=1), model(text), rtol=1e-9, atol=1e-9)
    assert cache.keys.shape == (3, CONFIG.num_layers, CONFIG.num_heads, 12, CONFIG.dim // CONFIG.num_heads)


def test_no_token_sees_those_after_it() -> None:
    model, text = same_weights(reference_model()), tokens(1, 12)
    changed = text.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % CONFIG.vocab_size
    before, after = model(text), model(changed)
    torch.testing.assert_close(before[:, :6], after[:, :6], rtol=0, atol=0)
    assert (before[:, 6:] - after[:, 6:]).abs().amax(dim=2).min() > 1e-3


@pytest.mark.parametrize(("size", "millions"), [("small", 124.4), ("medium", 354.8), ("large", 774.0), ("xl", 1557.6)])
def test_the_published_sizes_have_as_many_parameters_as_the_formula_and_transformers(
    size: str, millions: float
) -> None:
    config = GPT2_SIZES[size]
    with torch.device("meta"):
        ours = GPT2(config)
        theirs = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(n_layer=config.num_layers, n_head=config.num_heads, n_embd=config.dim)
        )
    counted = sum(parameter.numel() for parameter in ours.parameters())
    assert counted == config.num_parameters() == theirs.num_parameters()
    assert counted / 1e6 == pytest.approx(millions, abs=0.05)


def test_residual_projections_start_smaller_and_the_loss_near_that_of_guessing() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, context_length=8, num_layers=8, num_heads=4, dim=64)
    model = GPT2(config)
    block = model.blocks[0]
    assert isinstance(block, GPT2Block)
    assert block.down_proj.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    text = torch.randint(50, (64, 8))
    loss = F.cross_entropy(model(text)[:, :-1].flatten(0, 1), text[:, 1:].flatten())
    assert loss.item() == pytest.approx(torch.tensor(50.0).log().item(), rel=0.03)


def test_dropout_acts_while_training_only() -> None:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(13, 16, 1, 2, 8, dropout=0.5))
    text = tokens(1, 8)
    assert not torch.equal(model(text), model(text))
    model.eval()
    assert torch.equal(model(text), model(text))


def test_a_text_longer_than_the_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="17 tokens, but only 16 positions"):
        GPT2(CONFIG)(tokens(1, 17))


def test_weights_of_another_model_are_refused() -> None:
    state = reference_model().state_dict()
    with pytest.raises(ValueError, match=r"size mismatch for token_embedding"):
        GPT2(GPT2Config(12, 16, 3, 2, 8)).load_transformers(state)
    with pytest.raises(ValueError, match=r"(?s)not the weights of a GPT-2.*Missing key"):
        GPT2(CONFIG).load_transformers({name: tensor for name, tensor in state.items() if ".c_attn" not in name})
    with pytest.raises(ValueError, match=r"Unexpected key.*encoder\.pooler\.weight"):
        GPT2(CONFIG).load_transformers({**state, "encoder.pooler.weight": torch.zeros(2, 2)})


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValueError, match="multiple of the 3 heads"):
        GPT2Config(dim=8, num_heads=3)
