"""The network as it is trained."""

import pytest
import torch
from torch.nn import functional as F
from translator.config import Config
from translator.model import SequenceDropout, TeacherForcing, build, matrices, training_flops
from translator.tokenizer import BEGIN, END, PAD
from translator.train import optimizers

CONFIG = Config(dim=16, heads=2, encoder_layers=1, decoder_layers=2, feedforward_dim=24, dropout=0.3)
SOURCE = torch.tensor([[5, 6, 7, END], [8, END, PAD, PAD]])
TARGET = torch.tensor([[BEGIN, 4, 5, END, PAD], [BEGIN, 6, 7, 8, END]])


@pytest.fixture
def model() -> TeacherForcing:
    torch.manual_seed(0)
    model = TeacherForcing(build(CONFIG, 12), 0.1, torch.float32)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_the_loss_is_the_cross_entropy_of_the_networks_logits(model: TeacherForcing) -> None:
    model.eval()
    logits = model.network(SOURCE, TARGET[:, :-1]).flatten(0, 1)
    wanted = TARGET[:, 1:].flatten()
    torch.testing.assert_close(model(SOURCE, TARGET), F.cross_entropy(logits, wanted, ignore_index=PAD))
    model.train()
    for module in model.modules():
        if isinstance(module, SequenceDropout):
            module.p = 0.0
    smoothed = F.cross_entropy(logits, wanted, ignore_index=PAD, label_smoothing=0.1)
    torch.testing.assert_close(model(SOURCE, TARGET), smoothed)


def test_padding_changes_nothing(model: TeacherForcing) -> None:
    model.eval()
    tail = torch.full((2, 3), PAD)
    longer = model(torch.cat((SOURCE, tail), dim=1), torch.cat((TARGET, tail), dim=1))
    torch.testing.assert_close(longer, model(SOURCE, TARGET))


def test_dropout_is_the_same_in_all_tokens_of_a_sequence_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropout, x = SequenceDropout(0.25), torch.ones(2000, 3, 4)
    dropped = dropout(x)
    assert torch.equal(dropped[:, :1].expand_as(dropped), dropped)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert len(dropped[:, 0].unique(dim=0)) == 16  # every pattern of four features
    assert dropout.eval()(x) is x


def test_every_dropout_of_the_network_is_replaced(model: TeacherForcing) -> None:
    rates = {module.p for module in model.modules() if isinstance(module, SequenceDropout)}
    assert rates == {0.3}
    assert not [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    model.train()
    assert model(SOURCE, TARGET) != model(SOURCE, TARGET)


def test_a_new_network_is_the_identity_inside() -> None:
    network = build(CONFIG, 12).eval()
    x = torch.randn(2, 3, 16)
    torch.testing.assert_close(network.encoder(x)[0], network.encoder.norm(x))


def test_each_parameter_has_one_optimizer(model: TeacherForcing) -> None:
    stepping = optimizers(model, CONFIG, torch.float32)
    given = [id(p) for optimizer in stepping for group in optimizer.param_groups for p in group["params"]]
    assert sorted(given) == sorted(id(p) for p in model.parameters())
    assert {p.dim() for group in stepping[0].param_groups for p in group["params"]} == {2}


def test_flops_by_hand(model: TeacherForcing) -> None:
    encoder = 4 * 16 * 16 + 2 * 16 * 24
    decoder = 2 * (8 * 16 * 16 + 2 * 16 * 24)
    assert sum(p.numel() for p in matrices(model.network)) == encoder + decoder
    assert training_flops(model.network, 10, 7) == 6 * (10 * encoder + 7 * (decoder + 12 * 16))
