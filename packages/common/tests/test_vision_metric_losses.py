"""Contrastive and triplet loss and triplet mining against torch and pytorch-metric-learning, values and gradients."""

from collections.abc import Callable

import pytest
import torch
from dlcommon.vision.metric_losses import (
    all_triplets,
    contrastive_loss,
    pairwise_distances,
    semi_hard_triplets,
    triplet_loss,
)
from pytorch_metric_learning import distances, losses, miners, reducers
from torch.nn import functional as F

LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])


@pytest.fixture
def embeddings() -> torch.Tensor:
    random = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return F.normalize(random).requires_grad_()


def assert_same(embeddings: torch.Tensor, ours: Callable[[], torch.Tensor], theirs: Callable[[], torch.Tensor]) -> None:
    found, expected = ours(), theirs()
    assert expected > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        torch.autograd.grad(found, embeddings), torch.autograd.grad(expected, embeddings), rtol=1e-5, atol=1e-7
    )


def test_distances_are_torchs_and_have_a_gradient_where_points_coincide(embeddings: torch.Tensor) -> None:
    torch.testing.assert_close(pairwise_distances(embeddings), torch.cdist(embeddings, embeddings))
    (gradient,) = torch.autograd.grad(pairwise_distances(embeddings).sum(), embeddings)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0.1


def test_contrastive_loss_is_the_mean_over_all_pairs(embeddings: torch.Tensor) -> None:
    first, second = torch.triu_indices(9, 9, offset=1)
    same = LABELS[first] == LABELS[second]
    # Theirs has no square: the terms of the pairs are squared here.
    distance = distances.LpDistance(normalize_embeddings=False)
    theirs = losses.ContrastiveLoss(0, 1.2, reducer=reducers.DoNothingReducer(), distance=distance)

    def reference() -> torch.Tensor:
        terms = theirs(embeddings, LABELS)
        both = torch.cat((terms["pos_loss"]["losses"], terms["neg_loss"]["losses"]))
        return both.square().mean()  # each pair stands there twice, as (i, j) and (j, i)

    def ours() -> torch.Tensor:
        return contrastive_loss(pairwise_distances(embeddings)[first, second], same, margin=1.2)

    assert_same(embeddings, ours, reference)


def test_triplet_loss_is_torchs(embeddings: torch.Tensor) -> None:
    a, p, n = all_triplets(LABELS)
    table = pairwise_distances(embeddings)
    theirs = torch.nn.TripletMarginLoss(margin=0.4, eps=0.0)
    assert_same(
        embeddings,
        lambda: triplet_loss(table[a, p], table[a, n], 0.4),
        lambda: theirs(embeddings[a], embeddings[p], embeddings[n]),
    )


def test_no_triplets_cost_nothing() -> None:
    nothing = torch.zeros(0, requires_grad=True)
    loss = triplet_loss(nothing, nothing)
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_mined_triplets_are_pytorch_metric_learnings(embeddings: torch.Tensor, margin: float) -> None:
    table = pairwise_distances(embeddings)
    for kind, ours in (
        ("all", all_triplets(LABELS)),
        ("semihard", semi_hard_triplets(table, LABELS, margin)),
    ):
        # Their "all" drops those that cost nothing; a margin above any distance keeps them.
        miner = miners.TripletMarginMiner(9.0 if kind == "all" else margin, kind, distance=distances.LpDistance())
        theirs = miner(embeddings, LABELS)
        assert len(ours[0]) > 2
        assert set(zip(*(each.tolist() for each in ours), strict=True)) == set(
            zip(*(each.tolist() for each in theirs), strict=True)
        )
