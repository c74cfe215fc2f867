"""The whole Transformer: masks, cached and full decoding, generation, the exported graphs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.transformer.decoder import DecoderState
from dlcommon.transformer.positional_encoding import sinusoidal_encoding
from dlcommon.transformer.transformer import Transformer, TransformerConfig
from torch import nn
from torch.nn import functional as F

CONFIG = TransformerConfig(
    vocab_size=13, dim=16, num_heads=2, encoder_layers=2, decoder_layers=3, feedforward_dim=24, dropout=0.0
)
PAD, BOS, EOS = 0, 1, 2
SOURCE = torch.tensor([[5, 6, 7, 8, EOS], [9, 10, EOS, PAD, PAD]])


def random_ids(batch: int, length: int) -> torch.Tensor:
    return torch.randint(3, CONFIG.vocab_size, (batch, length), generator=torch.Generator().manual_seed(1))


def seeded(config: TransformerConfig = CONFIG) -> Transformer:
    torch.manual_seed(0)
    return Transformer(config).eval()


def test_logits_are_the_formula_of_the_parts() -> None:
    model, target = seeded(), random_ids(2, 4)
    embedding = model.target_embedding.weight

    def embed(ids: torch.Tensor) -> torch.Tensor:
        return embedding[ids] * 4.0 + sinusoidal_encoding(torch.arange(ids.size(1)), 16)

    mask = (SOURCE != PAD)[:, None, None]
    memory, _ = model.encoder(embed(SOURCE), mask)
    features, _ = model.decoder(embed(target), memory, memory_mask=mask)
    torch.testing.assert_close(model(SOURCE, target), features @ embedding.T)


def test_padding_of_the_source_changes_nothing() -> None:
    model, target = seeded(), random_ids(2, 4)
    padded = F.pad(SOURCE, (0, 3), value=PAD)
    torch.testing.assert_close(model(padded, target), model(SOURCE, target), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(SOURCE[1:, :3], target[1:]), model(SOURCE, target)[1:], rtol=1e-5, atol=1e-5)


def test_no_token_sees_those_behind_it_but_all_see_the_whole_source() -> None:
    model, target = seeded(), random_ids(1, 6)
    changed = target.clone()
    changed[0, 4:] = 3 + (changed[0, 4:] - 2) % 10
    before, after = model(SOURCE[:1], target), model(SOURCE[:1], changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])
    other = SOURCE[:1].clone()
    other[0, 3] = 11
    assert (model(other, target) - before).abs().amax(dim=2).min() > 1e-4


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("pieces", [[1] * 6, [2, 1, 3]])
def test_step_by_step_is_all_at_once(norm_first: bool, pieces: list[int]) -> None:
    model = seeded(TransformerConfig(**{**vars(CONFIG), "norm_first": norm_first}))
    target, mask = random_ids(2, 6), model.source_mask(SOURCE)
    memory = model.encode(SOURCE, mask)
    expected, expected_weights = model.decode_with_weights(target, memory, mask)
    torch.testing.assert_close(model.decode(target, memory, mask), expected, rtol=1e-4, atol=1e-5)
    state, start, found, found_weights = model.start(memory, mask), 0, [], []
    for piece in target.split(pieces, dim=1):
        position = torch.full((2,), start)
        logits, state_without, weights = model.step_with_weights(piece, position, state)
        plain, state = model.step(piece, position, state)
        torch.testing.assert_close(plain, logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state.keys, state_without.keys, rtol=1e-4, atol=1e-5)
        found.append(logits)
        found_weights.append(weights)
        start += piece.size(1)
    torch.testing.assert_close(torch.cat(found, dim=1), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat(found_weights, dim=3), expected_weights, rtol=1e-4, atol=1e-5)


def test_which_embeddings_are_shared() -> None:
    shared, separate = seeded(), seeded(TransformerConfig(**{**vars(CONFIG), "share_embeddings": False}))
    assert shared.source_embedding is shared.target_embedding
    assert sum(p.numel() for p in separate.parameters()) == sum(p.numel() for p in shared.parameters()) + 13 * 16
    assert "source_embedding.weight" in dict(separate.named_parameters())
    separate(SOURCE, random_ids(2, 4)).sum().backward()
    assert separate.source_embedding.weight.grad is not None
    assert separate.source_embedding.weight.grad[12].abs().max() == 0  # not in the source, though the output has it


def test_impossible_configurations_are_refused() -> None:
    with pytest.raises(ValueError, match="dim 20 must be even and a multiple of the 3 heads"):
        TransformerConfig(vocab_size=5, dim=20, num_heads=3)
    with pytest.raises(ValueError, match="even"):
        TransformerConfig(vocab_size=5, dim=9, num_heads=3)
    with pytest.raises(ValueError, match="pad_id 5 must be a token of the 5"):
        TransformerConfig(vocab_size=5, pad_id=5)
    with pytest.raises(ValueError, match="at least one layer"):
        TransformerConfig(vocab_size=5, decoder_layers=0)


def test_the_logits_of_an_untrained_model_are_of_unit_size() -> None:
    model = seeded(TransformerConfig(vocab_size=500, dim=64, num_heads=4, encoder_layers=2, decoder_layers=2))
    logits = model(torch.randint(3, 500, (4, 10)), torch.randint(3, 500, (4, 10)))
    assert 0.8 < logits.std().item() < 1.2


def test_it_learns_to_reverse_and_writes_by_itself() -> None:
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    words = random_ids(8, 4)
    source = F.pad(words, (0, 1), value=EOS)
    target = torch.cat([torch.full((8, 1), BOS), words.flip(1), torch.full((8, 1), EOS)], dim=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.cross_entropy(model(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    model.eval()
    written = model.greedy_decode(source, BOS, EOS, max_length=10)
    assert torch.equal(written, target[:, 1:])  # all have ended after five tokens, and so does decoding
    cut = model.greedy_decode(source, BOS, EOS, max_length=2)
    assert torch.equal(cut, target[:, 1:3])


def test_after_the_end_there_is_only_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded()
    script = iter([[5, EOS], [6, 7], [EOS, 8]])

    def scripted(
        tokens: torch.Tensor, position: torch.Tensor, state: DecoderState
    ) -> tuple[torch.Tensor, DecoderState]:
        return F.one_hot(torch.tensor(next(script)), 13).float()[:, None], state

    monkeypatch.setattr(model, "step", scripted)
    assert model.greedy_decode(SOURCE, BOS, EOS, max_length=9).tolist() == [[5, 6, EOS], [EOS, PAD, PAD]]


class Start(nn.Module):
    """Reads a source: what is computed once for each sentence."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mask = self.model.source_mask(source)
        state = self.model.start(self.model.encode(source, mask), mask)
        return state.memory_keys, state.memory_values, state.memory_mask


class Step(nn.Module):
    """Writes a token: what is computed once for each."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: torch.Tensor,
        position: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        memory_keys: torch.Tensor,
        memory_values: torch.Tensor,
        memory_mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        state = DecoderState(keys, values, memory_keys, memory_values, memory_mask)
        logits, after, weights = self.model.step_with_weights(tokens, position, state)
        return logits, after.keys, after.values, weights


def test_the_exported_graphs_translate_as_the_model_does_at_any_batch_and_length(tmp_path: Path) -> None:
    model = seeded()
    example = {"source": np.array([[3, 4, 5, 0], [3, 4, 5, 6]])}
    names = ("memory_keys", "memory_values", "memory_mask")
    write_onnx(
        ExportGraph(Start(model), example, names, {}, dynamic={"source": {1: "source_tokens"}}),
        {},
        tmp_path / "start.onnx",
    )
    past, memory = np.zeros((2, 3, 2, 5, 8), np.float32), np.zeros((2, 3, 2, 4, 8), np.float32)
    example = {"tokens": np.ones((2, 1), np.int64), "position": np.full(2, 5), "keys": past, "values": past}
    example |= {"memory_keys": memory, "memory_values": memory, "memory_mask": np.ones((2, 1, 1, 4), np.bool_)}
    axes = {name: {3: "source_tokens"} for name in names} | {name: {3: "past"} for name in ("keys", "values")}
    outputs = ("logits", "next_keys", "next_values", "weights")
    write_onnx(ExportGraph(Step(model), example, outputs, {}, dynamic=axes), {}, tmp_path / "step.onnx")

    source, target = torch.cat([SOURCE, SOURCE[:1]]), random_ids(3, 7)
    memory_state = OnnxModel(tmp_path / "start.onnx")({"source": source.numpy()})
    step, found, looked = OnnxModel(tmp_path / "step.onnx"), [], []
    keys = values = np.zeros((3, 3, 2, 0, 8), np.float32)
    for position in range(7):
        new = {"tokens": target[:, position : position + 1].numpy(), "position": np.full(3, position)}
        arrays = step({**new, "keys": keys, "values": values, **memory_state})
        keys, values = arrays["next_keys"], arrays["next_values"]
        found.append(torch.from_numpy(arrays["logits"]))
        looked.append(torch.from_numpy(arrays["weights"]))
    mask = model.source_mask(source)
    expected, weights = model.decode_with_weights(target, model.encode(source, mask), mask)
    torch.testing.assert_close(torch.cat(found, dim=1), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat(looked, dim=3), weights, rtol=1e-4, atol=1e-5)
