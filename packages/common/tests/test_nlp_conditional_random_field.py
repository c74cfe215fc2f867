"""The conditional random field against the enumeration of all paths, in value and gradient."""

import itertools

import pytest
import torch
from dlcommon.nlp.bio_tags import bio_tags, is_valid
from dlcommon.nlp.conditional_random_field import (
    IGNORED,
    ChainWeights,
    ConditionalRandomField,
    forbidden_moves,
    log_partition,
    marginals,
    path_score,
    viterbi,
)
from torch.nn import functional as F

TAGS, LENGTHS = 4, (5, 1, 3, 2)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights() -> ChainWeights:
    return ChainWeights(
        *(random(*shape, seed=seed).requires_grad_() for seed, shape in ((1, (TAGS,)), (2, (TAGS, TAGS)), (3, (TAGS,))))
    )


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Emissions, tags and mask of four sequences of different length."""
    emissions = random(len(LENGTHS), max(LENGTHS), TAGS).requires_grad_()
    tags = torch.randint(TAGS, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(4))
    return emissions, tags, torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


def every_path(emissions: torch.Tensor, chain: ChainWeights) -> tuple[torch.Tensor, torch.Tensor]:
    """All paths of one sequence without padding, [paths, tokens], and their scores, added up one by one."""
    paths = list(itertools.product(range(TAGS), repeat=len(emissions)))
    scores = []
    for path in paths:
        score = chain.start[path[0]] + chain.end[path[-1]]
        for t, tag in enumerate(path):
            score = score + emissions[t, tag]
        for before, after in itertools.pairwise(path):
            score = score + chain.transitions[before, after]
        scores.append(score)
    return torch.tensor(paths), torch.stack(scores)


def test_partition_equals_the_sum_over_all_paths_in_value_and_gradient() -> None:
    emissions, _, mask = batch()
    chain = weights()
    ours = log_partition(emissions, mask, chain)
    enumerated = torch.stack(
        [every_path(emissions[n, :length], chain)[1].logsumexp(0) for n, length in enumerate(LENGTHS)]
    )
    torch.testing.assert_close(ours, enumerated, rtol=1e-12, atol=1e-12)
    upstream = random(len(LENGTHS), seed=5)
    torch.testing.assert_close(
        torch.autograd.grad((ours * upstream).sum(), (emissions, *chain)),
        torch.autograd.grad((enumerated * upstream).sum(), (emissions, *chain)),
        rtol=1e-10,
        atol=1e-12,
    )


def test_likelihood_of_a_path_is_its_share_in_value_and_gradient() -> None:
    emissions, tags, mask = batch()
    chain = weights()
    ours = path_score(emissions, tags, mask, chain) - log_partition(emissions, mask, chain)
    shares = []
    for n, length in enumerate(LENGTHS):
        paths, scores = every_path(emissions[n, :length], chain)
        number = int((paths == tags[n, :length]).all(dim=1).nonzero()[0])
        shares.append(scores.log_softmax(0)[number])
    enumerated = torch.stack(shares)
    torch.testing.assert_close(ours, enumerated, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), (emissions, *chain)),
        torch.autograd.grad(enumerated.sum(), (emissions, *chain)),
        rtol=1e-10,
        atol=1e-12,
    )


def test_viterbi_finds_the_best_of_all_paths() -> None:
    emissions, _, mask = batch()
    chain = weights()
    found, score = viterbi(emissions, mask, chain)
    for n, length in enumerate(LENGTHS):
        paths, scores = every_path(emissions[n, :length], chain)
        assert found[n, :length].tolist() == paths[scores.argmax()].tolist()
        assert found[n, length:].tolist() == [IGNORED] * (max(LENGTHS) - length)
        torch.testing.assert_close(score[n], scores.max(), rtol=1e-12, atol=1e-12)


def test_marginals_are_sums_over_the_paths_through_a_tag() -> None:
    emissions, _, mask = batch()
    chain = weights()
    found = marginals(emissions, mask, chain)
    assert not found.requires_grad
    for n, length in enumerate(LENGTHS):
        paths, scores = every_path(emissions[n, :length], chain)
        one_hot = F.one_hot(paths, TAGS).double()  # [paths, tokens, tags]
        expected = (scores.softmax(0)[:, None, None] * one_hot).sum(0)
        torch.testing.assert_close(found[n, :length], expected, rtol=1e-10, atol=1e-12)
        assert not found[n, length:].any()


def test_without_transitions_it_is_a_softmax_at_each_token() -> None:
    emissions, tags, mask = batch()
    field = ConditionalRandomField(["O", "B-a", "I-a", "B-b"], constrained=False).double()
    ours = field(emissions, tags, mask)
    labels = tags.masked_fill(~mask, IGNORED)
    theirs = F.cross_entropy(emissions.transpose(1, 2), labels, reduction="none").sum(dim=1)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), emissions), torch.autograd.grad(theirs.sum(), emissions), rtol=1e-10, atol=1e-12
    )
    expected = emissions.argmax(dim=2).masked_fill(~mask, IGNORED)
    assert torch.equal(field.decode(emissions, mask), expected)


def test_padding_changes_nothing() -> None:
    emissions, tags, mask = batch()
    chain = weights()
    together = (log_partition(emissions, mask, chain), path_score(emissions, tags, mask, chain))
    filled = torch.where(mask[:, :, None], emissions, 1e3), torch.where(mask, tags, IGNORED)
    torch.testing.assert_close(log_partition(filled[0], mask, chain), together[0], rtol=0, atol=0)
    torch.testing.assert_close(path_score(*filled, mask, chain), together[1], rtol=0, atol=0)


def test_decoded_paths_keep_the_rules_of_bio_whatever_the_emissions() -> None:
    names = bio_tags(("person", "place"))
    emissions = 3 * random(200, 7, len(names))
    mask = torch.ones(200, 7, dtype=torch.bool)
    free, bound = (ConditionalRandomField(names, constrained=constrained).double() for constrained in (False, True))

    def valid(field: ConditionalRandomField) -> int:
        return sum(is_valid([names[tag] for tag in path]) for path in field.decode(emissions, mask).tolist())

    assert valid(free) < 20
    assert valid(bound) == 200
    assert field_probability_of_invalid(bound, emissions, mask) < 1e-6


def field_probability_of_invalid(field: ConditionalRandomField, emissions: torch.Tensor, mask: torch.Tensor) -> float:
    """Largest probability that a sequence begins with an I."""
    starts, _ = forbidden_moves(bio_tags(("person", "place")))
    return float(marginals(emissions, mask, field.weights())[:, 0, starts].max())


def test_training_with_constraints_has_finite_gradients() -> None:
    names = bio_tags(("person", "place"))
    field = ConditionalRandomField(names)
    emissions = torch.randn(3, 6, len(names), generator=torch.Generator().manual_seed(0), requires_grad=True)
    tags = torch.tensor([[1, 2, 0, 3, 4, 4], [0, 0, 0, 0, 0, 0], [3, 1, 2, 2, 0, 1]])
    loss = field(emissions, tags, torch.ones(3, 6, dtype=torch.bool)).sum()
    loss.backward()
    for parameter in (emissions, *field.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert 0 < loss < 3 * 6 * torch.tensor(2.0 * len(names)).log() + 30
    assert set(field.state_dict()) == {"start", "transitions", "end"}


def test_masks_that_cannot_be_are_refused() -> None:
    field = ConditionalRandomField(["O", "B-a", "I-a"])
    emissions, tags = torch.zeros(2, 3, 3), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="sequence 1 of the batch has no tokens"):
        field(emissions, tags, torch.tensor([[True, True, True], [False, False, False]]))
    with pytest.raises(ValueError, match="tokens after padding"):
        field.decode(emissions, torch.tensor([[True, False, True], [True, True, False]]))
