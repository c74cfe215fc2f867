"""The exported step against the network: each row with its own adapter, and with a cache of its own length."""

from pathlib import Path

import numpy as np
import torch
from dlcommon.llm.llama import Llama
from dlcommon.nlp.lora import lora_disabled
from dlcommon.runtime.onnx_model import OnnxModel
from llm_lora.adapter_matrix import AdapterLayout, stacked
from llm_lora.catalog import read_adapter


def step(
    model: OnnxModel, tokens: np.ndarray, lengths: list[int], cache: np.ndarray, **inputs: np.ndarray
) -> dict[str, np.ndarray]:
    rows, new = tokens.shape
    arrays = {
        "tokens": tokens, "past_lengths": np.array(lengths), "keys": cache[0], "values": cache[1],
        "wanted": np.tile(np.arange(new), (rows, 1)),
    }  # fmt: skip
    return model({**arrays, **inputs})


def test_rows_choose_base_or_adapter_whatever_the_length_of_their_caches(
    exported: tuple[Llama, Path],
) -> None:
    network, path = exported
    tokens = torch.randint(0, 258, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tuned = network(tokens)[1].numpy()
        with lora_disabled(network):
            base = network(tokens)[0].numpy()
    model, ids = OnnxModel(path, 1), tokens.numpy()
    own = read_adapter(path)
    matrix, (tuned_scale, _) = stacked([own, np.full((2, own.shape[1]), 9, np.float32)])
    inputs = {"adapter": matrix, "lora_scale": np.stack([np.zeros_like(tuned_scale), tuned_scale])}
    empty = np.zeros((2, 2, 2, 2, 0, 16), np.float32)
    whole = step(model, ids, [0, 0], empty, **inputs)
    np.testing.assert_allclose(whole["logits"], np.stack([base, tuned]), rtol=1e-4, atol=1e-4)
    assert np.abs(base - tuned).max() > 0.1
    # What lies behind a row's length is never read.
    cache = np.full((2, 2, 2, 2, 12, 16), 7.0, np.float32)
    for row, length in enumerate((5, 3)):
        for part, name in enumerate(("new_keys", "new_values")):
            cache[part][row, :, :, :length] = whole[name][row, :, :, :length]
    continued = step(model, np.stack([ids[0, 5:8], ids[1, 3:6]]), [5, 3], cache, **inputs)
    np.testing.assert_allclose(continued["logits"], np.stack([base[5:8], tuned[3:6]]), rtol=1e-4, atol=1e-4)


def test_without_an_adapter_the_graph_uses_its_own(exported: tuple[Llama, Path]) -> None:
    network, path = exported
    tokens = np.array([[3, 4, 5]])
    with torch.no_grad():
        expected = network(torch.from_numpy(tokens)).numpy()
    scale = np.ones((1, len(read_adapter(path))), np.float32)
    found = step(OnnxModel(path, 1), tokens, [0], np.zeros((2, 1, 2, 2, 0, 16), np.float32), lora_scale=scale)
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_of_fewer_layers_is_widened_with_zeros() -> None:
    own = AdapterLayout((("b", 2, 1),))
    wide = AdapterLayout((("a", 1, 1), ("b", 2, 1)))
    assert wide.holds(own)
    assert not own.holds(wide)
    assert wide.widened(np.array([[1, 2, 3]]), own).tolist() == [[0, 0, 1, 2, 3]]
    assert AdapterLayout.from_json(wide.to_json()) == wide
