"""A fine-tuned pretrained encoder as a small file beside its asset."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dlcommon.runtime.data import ASSETS, Asset, AssetForm, LocatedAsset, require_asset
from dlcommon.runtime.errors import DataUnavailableError
from dlcommon.runtime.export.adapter import leave_out
from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.predict import original_predictor
from dlcommon.runtime.stored_weights import StoredWeights
from dlcommon.transformer.bert_weights import load_pretrained
from sentiment_bert.classifying import Reader
from sentiment_bert.config import Adaptation, Config
from sentiment_bert.difference import DifferenceLinear, dequantize, quantize, store_differences
from sentiment_bert.model import build, inference_graph
from sentiment_bert.tokenizer import TOKENIZER, Tokenizer
from transformers import BertConfig, BertModel

TEXTS = ("a gripping and funny film", "slow , very slow", "not good")


@pytest.fixture
def asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocatedAsset:
    """Returns a tiny BERT as transformers stores it, as an asset of the registry."""
    files = dict.fromkeys(("config.json", "model.safetensors", TOKENIZER))
    title, forms = LocalizedText("Tiny", "小"), (AssetForm("safetensors", files),)
    monkeypatch.setitem(ASSETS, "tiny-bert", Asset("tiny-bert", title, "", "none", "", forms))
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path))
    folder = tmp_path / "assets" / "tiny-bert" / "safetensors"
    tokenizer = Tokenizer.train(TEXTS * 2, 100)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=tokenizer.size, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(shape).save_pretrained(folder)
    (folder / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
    return require_asset("tiny-bert")


@pytest.mark.parametrize("adaptation", ["layers", "lora"])
def test_the_file_holds_what_was_trained_and_needs_the_asset(
    asset: LocatedAsset, adaptation: Adaptation, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_pretrained(asset.path)
    network = build(
        Config(adaptation=adaptation, members=1, lora_rank=2, trained_layers=1), tokenizer, 2, asset.path
    ).eval()
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert {"bert.embeddings.word.weight", "bert.encoder.layers.0.feed_forward.up_proj.weight"} <= frozen
    assert not any(name in frozen for name in StoredWeights.of(network, [network.bert]).names)
    for parameter in network.parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    expected = network(torch.tensor([tokenizer.row(tokenizer.encode(TEXTS[0]).ids)])).detach().numpy()
    store_differences(network.bert.encoder, load_pretrained(asset.path).encoder)
    graph = inference_graph(
        network.requires_grad_(False), tokenizer, ["bad", "good"], 1.0, language="en", network_name="tiny",
        requires=("tiny-bert",),
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    write_onnx(graph, {**graph.metadata, "requires": json.dumps([asset.record()])}, path)
    before = path.stat().st_size
    # All that is frozen is left out: the embeddings, and both layers' pretrained matrices.
    leave_out(path, [asset])
    assert path.stat().st_size < before / 2
    onnx, original = (Reader(one, graph.metadata) for one in (OnnxModel(path, 1), original_predictor(graph)))
    rows = onnx.rows(onnx.tokenizer.encode_batch(TEXTS))
    logits = original.logits(rows, 2)
    np.testing.assert_allclose(onnx.logits(rows, 2), logits, atol=1e-5)
    np.testing.assert_allclose(logits[:1], expected, atol=1e-6 if adaptation == "lora" else 0.05)
    (asset.path / "model.safetensors").unlink()
    with pytest.raises(DataUnavailableError, match="tiny-bert is not on this machine"):
        OnnxModel(path)


def test_four_bits_keep_a_difference_to_a_tenth() -> None:
    torch.manual_seed(0)
    difference = 0.01 * torch.randn(48, 96)
    codes, scales = quantize(difference)
    assert codes.numel() == difference.numel() // 2
    found = dequantize(codes, scales)
    # Half a step of each group, whose step is its largest value over 7.
    steps = difference.view(48, 3, 32).abs().amax(dim=2, keepdim=True) / 7
    assert ((found - difference).view(48, 3, 32).abs() <= 0.51 * steps).all()
    assert (found - difference).norm() < 0.12 * difference.norm()
    assert not dequantize(*quantize(torch.zeros(2, 32))).any()


def test_only_what_differs_is_stored() -> None:
    tuned, pretrained = (torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Linear(32, 32)) for _ in range(2))
    tuned[0].load_state_dict(pretrained[0].state_dict())
    store_differences(tuned, pretrained)
    assert type(tuned[0]) is torch.nn.Linear
    assert isinstance(tuned[1], DifferenceLinear)
