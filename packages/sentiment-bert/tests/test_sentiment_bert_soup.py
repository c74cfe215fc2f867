import copy

import torch
from sentiment_bert.soup import WeightSoup
from torch import nn

STEPS = 6


def trained(soup: WeightSoup, parameter: nn.Parameter, optimizer: torch.optim.Optimizer, first: int, end: int) -> None:
    """Takes steps `first` to `end` of `STEPS`, each with a gradient of its own."""
    for step in range(first, end):
        soup.begin_step(step / STEPS, optimizer)
        parameter.grad = torch.full_like(parameter, 1.0 + step)
        optimizer.step()


def new() -> tuple[WeightSoup, nn.Parameter, torch.optim.Optimizer]:
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    return WeightSoup([parameter], 3), parameter, torch.optim.AdamW([parameter], lr=0.1)


def test_it_ends_with_the_mean_of_fine_tunings_that_each_start_anew() -> None:
    soup, parameter, optimizer = new()
    trained(soup, parameter, optimizer, 0, STEPS)
    soup.finish()
    ends = []
    for member in range(3):
        _, alone, adam = new()
        for step in (2 * member, 2 * member + 1):
            alone.grad = torch.full_like(alone, 1.0 + step)
            adam.step()
        ends.append(alone.detach())
    torch.testing.assert_close(parameter.detach(), torch.stack(ends).mean(dim=0))


def test_a_stored_soup_goes_on_as_if_it_had_not_been_interrupted() -> None:
    soup, parameter, optimizer = new()
    trained(soup, parameter, optimizer, 0, 3)
    again, other, adam = new()
    with torch.no_grad():
        other.copy_(parameter)
    # Copies, as a file holds: an optimizer takes the tensors that it is given.
    again.load_state_dict(copy.deepcopy(soup.state_dict()))
    adam.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one in ((soup, parameter, optimizer), (again, other, adam)):
        trained(*one, 3, STEPS)
        one[0].finish()
    assert torch.equal(parameter, other)


def test_each_fine_tuning_has_the_whole_schedule() -> None:
    soup, _, optimizer = new()
    seen = []
    for step in range(STEPS):
        soup.begin_step(step / STEPS, optimizer)
        seen.append(round(soup.progress(step / STEPS), 6))
    assert seen == [0.0, 0.5] * 3
    assert soup.progress(1.0) == 1.0


def test_one_member_is_left_as_it_is() -> None:
    parameter = nn.Parameter(torch.ones(2))
    soup, optimizer = WeightSoup([parameter], 1), torch.optim.SGD([parameter], lr=0.1)
    soup.begin_step(0.9, optimizer)
    soup.finish()
    assert torch.equal(parameter.detach(), torch.ones(2))
    assert soup.progress(0.3) == 0.3
