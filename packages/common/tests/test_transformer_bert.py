"""BERT against transformers, with the same weights: values, gradients, dropout, and what is refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.testing.skips import asset_or_skip
from dlcommon.transformer.bert import (
    IGNORED,
    Bert,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    mask_tokens,
    mean_pool,
)
from dlcommon.transformer.bert_weights import load_pretrained, load_transformers_weights, translate_name
from torch.nn import functional as F

CONFIG = BertConfig(vocab_size=31, dim=16, num_layers=2, num_heads=4, feedforward_dim=24, max_tokens=12, num_segments=2)
THEIR_CONFIG = transformers.BertConfig(
    vocab_size=31,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=12,
    num_labels=3,
)
MASK = torch.tensor([[1] * 9, [1] * 6 + [0] * 3, [1] + [0] * 8])
SEGMENTS = torch.tensor([[0] * 4 + [1] * 5] * 3)


def token_ids() -> torch.Tensor:
    return torch.randint(1, 31, (3, 9), generator=torch.Generator().manual_seed(1)) * MASK


def with_random_weights(model: Any) -> Any:
    """Weights of a size that matters, in float64; those that start at 0 or 1 are made to differ."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.double().parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def pair(kind: str) -> tuple[Any, Any]:
    """Returns our model and transformers', with the same random weights."""
    bert = Bert(CONFIG)
    ours: Any
    if kind == "encoder":
        ours, theirs = bert, transformers.BertModel(THEIR_CONFIG)
    elif kind == "classifier":
        ours, theirs = BertForSequenceClassification(bert, 3), transformers.BertForSequenceClassification(THEIR_CONFIG)
    else:
        ours, theirs = BertForMaskedLM(Bert(CONFIG, pooler=False)), transformers.BertForMaskedLM(THEIR_CONFIG)
    with_random_weights(theirs)
    load_transformers_weights(ours.double(), theirs.state_dict())
    return ours.eval(), theirs


def outputs(kind: str, ours: Any, theirs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    ids = token_ids()
    found = ours(ids, MASK, SEGMENTS)
    answer = theirs(ids, attention_mask=MASK, token_type_ids=SEGMENTS)
    if kind == "encoder":
        pooled = ours.pool(found)
        return torch.cat([found.flatten(), pooled.flatten()]), torch.cat(
            [answer.last_hidden_state.flatten(), answer.pooler_output.flatten()]
        )
    return found, answer.logits


def gradients_by_our_name(theirs: Any) -> dict[str, torch.Tensor]:
    named = {}
    for name, parameter in theirs.named_parameters():
        ours = translate_name(name.removeprefix("bert."))
        assert ours is not None
        named[ours] = parameter.grad
    return named


KINDS = pytest.mark.parametrize("kind", ["encoder", "classifier", "masked LM"])


@KINDS
def test_values_and_gradients_are_those_of_transformers(kind: str) -> None:
    ours, theirs = pair(kind)
    found, expected = outputs(kind, ours, theirs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for result in (found, expected):
        (result * torch.linspace(-1, 1, result.numel()).double().view_as(result)).sum().backward()
    gradients = gradients_by_our_name(theirs)
    assert len(gradients) == len(list(ours.parameters()))
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name.removeprefix("bert.")], rtol=1e-9, atol=1e-11, msg=name
        )


@KINDS
def test_dropout_acts_in_the_same_places(kind: str) -> None:
    """With the same seed both draw the same masks, if they draw as many, of the same shapes, in the same order."""
    ours, theirs = pair(kind)
    results = []
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(5)
        results.append(model(token_ids(), MASK, SEGMENTS))
    found, answer = results
    expected = answer.last_hidden_state if kind == "encoder" else answer.logits
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    ours.eval()
    assert not torch.allclose(found, ours(token_ids(), MASK, SEGMENTS), atol=1e-2)


def test_padding_and_segments_left_out_mean_all_tokens_of_the_first_part() -> None:
    ours, theirs = pair("encoder")
    ids = token_ids()[:1]
    expected = theirs(ids).last_hidden_state
    torch.testing.assert_close(ours(ids), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours(ids, torch.ones(1, 9, dtype=torch.bool), torch.zeros_like(ids)), ours(ids))


def test_a_text_has_the_same_features_whatever_its_batch_is_padded_to() -> None:
    ours, _ = pair("encoder")
    ids = token_ids()
    padded, alone = ours(ids, MASK)[1, :6], ours(ids[1:2, :6])[0]
    torch.testing.assert_close(padded, alone)
    pooled = mean_pool(ours(ids, MASK), MASK)
    torch.testing.assert_close(pooled[1], alone.mean(dim=0))
    assert pooled.shape == (3, 16)


def test_new_models_start_as_transformers_do() -> None:
    torch.manual_seed(0)
    bert = Bert(BertConfig(vocab_size=2000, dim=64, num_layers=1, num_heads=2, feedforward_dim=256))
    weights = {name: p for name, p in bert.named_parameters() if p.ndim == 2}
    assert len(weights) == 10
    assert all(abs(float(p.detach().std()) - 0.02) < 0.002 for name, p in weights.items() if "segment" not in name)
    assert not bert.embeddings.word.weight[0].any()  # padding
    assert all(not p.any() for name, p in bert.named_parameters() if name.endswith("bias"))
    model = BertForSequenceClassification(bert, 2)
    logits = model.eval()(torch.randint(1, 2000, (8, 10)))
    assert abs(F.cross_entropy(logits, torch.arange(8) % 2).item() - np.log(2)) < 0.05


def test_a_model_without_a_pooler_neither_pools_nor_classifies() -> None:
    bert = Bert(CONFIG, pooler=False)
    with pytest.raises(ValueError, match="has no pooler"):
        bert.pool(bert(token_ids()))
    with pytest.raises(ValueError, match="'cls' needs the pooler"):
        BertForSequenceClassification(bert, 2)


def test_classifying_by_the_mean_of_the_tokens() -> None:
    model = BertForSequenceClassification(Bert(CONFIG, pooler=False), 3, pooling="mean").eval()
    ids = token_ids()
    expected = model.classifier(mean_pool(model.bert(ids, MASK), MASK))
    torch.testing.assert_close(model(ids, MASK), expected)
    torch.testing.assert_close(model(ids[1:2, :6]), expected[1:2])  # its own tokens, without a mask
    listed = [id(parameter) for part in model.parts() for parameter in part.parameters()]
    assert listed == [id(parameter) for parameter in model.parameters()]


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="13 tokens, but this model has positions for 12"):
        Bert(CONFIG)(torch.ones(1, 13, dtype=torch.long))


def hub_config(**changes: Any) -> dict[str, Any]:
    """MiniLM's own `config.json`."""
    content = {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "gradient_checkpointing": False,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 384,
        "initializer_range": 0.02,
        "intermediate_size": 1536,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "bert",
        "num_attention_heads": 12,
        "num_hidden_layers": 6,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "vocab_size": 30522,
    }
    return {name: value for name, value in (content | changes).items() if value is not ...}


def test_the_hubs_config_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(hub_config()))
    expected = BertConfig(vocab_size=30522, dim=384, num_layers=6, num_heads=12, feedforward_dim=1536)
    assert BertConfig.from_json(path) == expected
    transformers.BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536).save_pretrained(tmp_path)
    assert BertConfig.from_json(path) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta', but Bert implements only 'bert'"),
        ({"model_type": ...}, "model_type is None"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu', but Bert implements only 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder is True, but Bert implements only False"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"attention_probs_dropout_prob": 0.0}, "hidden_dropout_prob 0.1 and attention_probs_dropout_prob 0.0 differ"),
        ({"hidden_size": ...}, "hidden_size must be a positive integer, not None"),
        ({"vocab_size": "many"}, "vocab_size must be a positive integer, not 'many'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer, not 0"),
        ({"type_vocab_size": True}, "type_vocab_size must be a positive integer, not True"),
        ({"layer_norm_eps": "tiny"}, "layer_norm_eps must be a number, not 'tiny'"),
        ({"num_attention_heads": 7}, "dim 384 must be a multiple of num_heads 7"),
    ],
)
def test_another_architecture_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(hub_config(**changes)))
    with pytest.raises(ValueError, match=message):
        BertConfig.from_json(path)


@pytest.mark.parametrize(("text", "message"), [("{", "is no JSON"), ("[]", "holds no JSON object")])
def test_a_damaged_config_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"config.json {message}"):
        BertConfig.from_json(path)


def rename(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights[new] = weights.pop(old)

    return change


BIAS = "encoder.layer.1.attention.self.key.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop(BIAS), "missing weights: encoder.layers.1.self_attention.key_proj.bias"),
        (rename(BIAS, "encoder.layer.1.attention.self.lock.bias"), "unknown weights: .*lock.bias"),
        (rename(BIAS, "encoder.layer.7.attention.self.key.bias"), "missing weights"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "unknown weights: extra"),
        (
            lambda weights: weights.update({"encoder.layer.7.output.dense.bias": torch.zeros(16)}),
            "without a place in the model: encoder.layers.7.feed_forward.down_proj.bias",
        ),
        (lambda weights: weights.update({BIAS: torch.zeros(15)}), r"is \(15,\), but the model's is \(16,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(
    change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    weights = dict(transformers.BertModel(THEIR_CONFIG).state_dict())
    change(weights)
    bert = Bert(CONFIG)
    before = {name: tensor.clone() for name, tensor in bert.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_transformers_weights(bert, weights)
    assert all(torch.equal(tensor, before[name]) for name, tensor in bert.state_dict().items())


def test_what_a_masked_lm_ties_must_be_equal() -> None:
    weights = dict(transformers.BertForMaskedLM(THEIR_CONFIG).state_dict())
    assert {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"} <= set(weights)
    weights["cls.predictions.decoder.weight"] = weights["cls.predictions.decoder.weight"] + 1
    with pytest.raises(ValueError, match=r"decoder\.weight differs from the weight that it is tied to"):
        load_transformers_weights(BertForMaskedLM(Bert(CONFIG, pooler=False)), weights)


def test_the_encoder_of_a_pretraining_checkpoint_with_the_first_berts_names() -> None:
    theirs = with_random_weights(transformers.BertForPreTraining(THEIR_CONFIG))
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in theirs.state_dict().items()
    }
    assert any(name.endswith("gamma") for name in old)
    assert "cls.seq_relationship.weight" in old
    ours = Bert(CONFIG).double().eval()
    load_transformers_weights(ours, old | {"bert.embeddings.position_ids": torch.arange(12)[None]})
    expected = theirs.bert(token_ids(), MASK, SEGMENTS).last_hidden_state
    torch.testing.assert_close(ours(token_ids(), MASK, SEGMENTS), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pooler", [True, False])
def test_a_saved_model_is_loaded_without_drawing_random_numbers(tmp_path: Path, pooler: bool) -> None:
    theirs = transformers.BertModel(THEIR_CONFIG, add_pooling_layer=pooler).eval()
    theirs.save_pretrained(tmp_path)
    state = torch.random.get_rng_state()
    ours = load_pretrained(tmp_path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert (ours.pooler is not None) == pooler
    assert not ours.training
    assert all(parameter.dtype == torch.float32 and parameter.requires_grad for parameter in ours.parameters())
    expected = theirs(token_ids(), MASK).last_hidden_state
    torch.testing.assert_close(ours(token_ids(), MASK), expected, rtol=1e-5, atol=1e-6)


def test_a_file_that_does_not_fit_its_config_is_named(tmp_path: Path) -> None:
    transformers.BertModel(THEIR_CONFIG).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"num_hidden_layers": 3}))
    with pytest.raises(ValueError, match=r"model.safetensors: missing weights: encoder.layers.2"):
        load_pretrained(tmp_path)


def test_minilm_gives_what_transformers_gives_in_value_and_gradient() -> None:
    directory = asset_or_skip("all-minilm-l6-v2").path
    ours, theirs = load_pretrained(directory), transformers.BertModel.from_pretrained(directory).eval()
    assert sum(parameter.numel() for parameter in ours.parameters()) == 22_713_216
    ids = torch.randint(1000, 30_000, (3, 9), generator=torch.Generator().manual_seed(2)) * MASK
    found, expected = ours(ids, MASK, SEGMENTS), theirs(ids, MASK, SEGMENTS)
    torch.testing.assert_close(found, expected.last_hidden_state, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.pool(found), expected.pooler_output, rtol=1e-5, atol=1e-5)
    ours.pool(found).square().sum().backward()
    expected.pooler_output.square().sum().backward()
    gradients = gradients_by_our_name(theirs)
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        # Gradients of different size: what matters is the difference against the largest.
        scale = float(gradients[name].abs().max())
        assert float((parameter.grad - gradients[name]).abs().max()) <= 1e-5 * max(scale, 1e-3), name


def test_the_exported_classifier_is_the_models_own_at_any_batch_and_length(tmp_path: Path) -> None:
    model = BertForSequenceClassification(Bert(dataclasses.replace(CONFIG, num_layers=1)), 3)
    with_random_weights(model).float()
    example = {"input_ids": np.ones((2, 5), np.int64), "attention_mask": np.ones((2, 5), np.int64)}
    dynamic = {"input_ids": {1: "tokens"}, "attention_mask": {1: "tokens"}}
    write_onnx(ExportGraph(model, example, ("logits",), {}, dynamic=dynamic), {}, tmp_path / "bert.onnx")
    onnx = OnnxModel(tmp_path / "bert.onnx")
    for batch, tokens in ((3, 9), (1, 2), (2, 12)):
        ids = torch.randint(1, 31, (batch, tokens))
        mask = torch.ones_like(ids)
        mask[0, tokens // 2 :] = 0
        found = onnx({"input_ids": ids.numpy(), "attention_mask": mask.numpy()})["logits"]
        torch.testing.assert_close(torch.from_numpy(found), model(ids, mask), rtol=1e-4, atol=1e-4)


def test_of_the_chosen_tokens_most_are_masked_some_replaced_some_kept() -> None:
    ids = torch.randint(5, 1000, (200, 100), generator=torch.Generator().manual_seed(0))
    maskable = torch.rand(200, 100, generator=torch.Generator().manual_seed(1)) < 0.9

    def run(seed: int, **options: float) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return mask_tokens(ids, maskable, mask_token_id=4, vocab_size=1000, generator=generator, **options)

    corrupted, labels = run(0)
    chosen = labels != IGNORED
    assert not (chosen & ~maskable).any()
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(corrupted[~chosen], ids[~chosen])
    # 18,000 tokens may be chosen: four standard deviations of the shares.
    assert abs(float(chosen[maskable].double().mean()) - 0.15) < 0.011
    masked, kept = corrupted[chosen] == 4, corrupted[chosen] == ids[chosen]
    assert abs(float(masked.double().mean()) - 0.8) < 0.031
    assert abs(float(kept.double().mean()) - 0.1) < 0.024
    replaced = corrupted[chosen][~masked & ~kept]
    assert len(replaced.unique()) > 100
    assert torch.equal(run(0)[0], corrupted)
    assert not torch.equal(run(1)[0], corrupted)
    everything, labels = run(2, probability=1.0)
    assert torch.equal(labels != IGNORED, maskable)
    assert torch.equal(everything[~maskable], ids[~maskable])
