"""Steering against an analytic generator, recogniser and reader: what is met, what is kept, and who influences whom."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from hyperface.models.protocols import AttributeRange
from hyperface.synthesis.attribute_control import INNER, Settings, Steered, missed, steer

D = 48
YAW = AttributeRange(-30.0, 30.0, tolerance=2.0)
QUALITY = AttributeRange(0.0, 30.0, tolerance=1.0, at_least=True)
NAN = float("nan")
SETTINGS = Settings()


def decode(rows_BD: Tensor, seeds_B: Sequence[int]) -> Tensor:
    """The row itself as an image [B, 3, 4, 4], shifted a little by the seed; no sum, so that no batch changes a bit."""
    return (rows_BD + torch.tensor([[0.001 * (seed % 7)] for seed in seeds_B])).reshape(-1, 3, 4, 4)


def recognize(images: Tensor) -> Tensor:
    return images.flatten(1)


def read(images: Tensor) -> Tensor:
    """Yaw from one pixel, quality from another."""
    return torch.stack([100.0 * images[:, 0, 0, 0], 50.0 * images[:, 1, 1, 1]], 1)


def rows(count: int, length: float = 1.0) -> Tensor:
    drawn = torch.randn(count, D, generator=torch.Generator().manual_seed(3))
    return drawn * (length / drawn.norm(dim=1, keepdim=True))


def steered(rows_BD: Tensor, targets: list[list[float]], settings: Settings = SETTINGS, **given: object) -> Steered:
    seeds = given.get("seeds", range(len(rows_BD)))
    assert isinstance(seeds, Sequence)
    parts = {"decode": decode, "recognize": recognize, "read": read} | {k: v for k, v in given.items() if k != "seeds"}
    return steer(rows_BD, seeds, rows_BD, torch.tensor(targets), [YAW, QUALITY], settings=settings, **parts)  # type: ignore[arg-type]


def seen(found: Steered) -> Tensor:
    return read(decode(found.rows_Bd, range(len(found.rows_Bd))))


def test_every_image_reaches_its_own_target_and_keeps_its_identity():
    targets = [[20.0, NAN], [-20.0, NAN], [0.0, 5.0], [10.0, 8.0]]
    found = steered(rows(4), targets)
    values = seen(found)
    assert (values[:, 0] - torch.tensor([20.0, -20.0, 0.0, 10.0])).abs().max() <= INNER * YAW.tolerance
    assert values[2, 1] >= 5.0 - INNER
    assert values[3, 1] >= 8.0 - INNER
    assert torch.cosine_similarity(found.rows_Bd, rows(4)).min() > 0.7
    assert all(0 < steps < 30 for steps in found.steps_B)


@pytest.mark.parametrize("length", [1.0, 22.0])
def test_the_length_of_a_row_is_kept_and_a_step_means_the_same_at_every_length(length: float):
    def shrunk(rows_BD: Tensor, seeds_B: Sequence[int]) -> Tensor:
        return decode(rows_BD / length, seeds_B)

    found = steered(rows(3, length), [[15.0, NAN]] * 3, decode=shrunk)
    assert found.rows_Bd.norm(dim=1).tolist() == pytest.approx([length] * 3, rel=1e-5)
    assert found.steps_B == steered(rows(3), [[15.0, NAN]] * 3).steps_B


def test_the_rows_of_a_batch_do_not_influence_each_other():
    targets = [[25.0, NAN], [NAN, NAN], [-3.0, 9.0], [0.0, NAN], [-25.0, 2.0]]
    together = steered(rows(5), targets)
    assert len(set(together.steps_B)) > 2, "they stop at different steps"
    for i in range(5):
        alone = steered(rows(5)[[i]], [targets[i]], seeds=[i])
        assert torch.equal(alone.rows_Bd[0], together.rows_Bd[i])
        assert alone.steps_B == [together.steps_B[i]]


def test_an_image_that_begins_where_it_is_wanted_stays_to_the_last_bit():
    begun = rows(2)
    yaw = float(read(decode(begun, [0, 1]))[0, 0])
    found = steered(begun, [[yaw, NAN], [NAN, NAN]])
    assert torch.equal(found.rows_Bd, begun)
    assert found.steps_B == [0, 0]


def test_a_target_out_of_reach_ends_at_the_bound():
    found = steered(rows(2), [[500.0, NAN], [0.0, NAN]], Settings(steps=12, margin=-1.0))
    assert found.steps_B[0] == 12
    assert 0 < found.steps_B[1] < 12


def test_an_image_that_overshoots_keeps_the_best_row_that_it_has_been_at():
    losses = list[float]()

    def watched(images: Tensor) -> Tensor:
        values = read(images)
        losses.append(float((values[0, 0].detach() - 20.0).abs()))
        return values

    found = steered(rows(1), [[20.0, NAN]], Settings(steps=6, learning_rate=2.5, margin=-1.0), read=watched)
    assert len(losses) == 7
    assert losses[-1] > min(losses) + 1.0, "the last row is not the best"
    assert float((seen(found)[0, 0] - 20.0).abs()) == pytest.approx(min(losses), abs=1e-3)


def test_identity_is_not_given_up_for_an_attribute():
    target, begun = [[90.0, NAN]], rows(1)
    kept = steered(begun, target, Settings(steps=200, margin=0.8))
    lost = steered(begun, target, Settings(steps=200, margin=-1.0))
    assert torch.cosine_similarity(kept.rows_Bd, begun)[0] > 0.7
    assert torch.cosine_similarity(lost.rows_Bd, begun)[0] < 0.6


def test_more_than_enough_is_enough_only_where_more_is_as_good():
    begun = rows(1)
    yaw, quality = read(decode(begun, [0]))[0].tolist()
    assert steered(begun, [[NAN, quality - 9.0]]).steps_B == [0]
    assert steered(begun, [[yaw - 9.0, NAN]]).steps_B != [0]


def test_steps_are_those_of_adam_on_the_sphere():
    begun, target, steps = rows(1), 28.0, 5
    z = (begun * D**0.5).clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=0.1)
    for _ in range(steps):
        yaw = read(decode(z / D**0.5, [0]))[0, 0]
        loss = 5.0 * ((yaw - target).abs() / YAW.tolerance - INNER)
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        with torch.no_grad():
            z.mul_(D**0.5 / z.norm())
    found = steered(begun, [[target, NAN]], Settings(steps=steps, margin=-1.0))
    torch.testing.assert_close(found.rows_Bd, (z / D**0.5).detach(), rtol=1e-4, atol=1e-5)


def test_an_image_that_is_not_finite_ends_where_it_was_and_the_others_go_on():
    def broken(rows_BD: Tensor, seeds_B: Sequence[int]) -> Tensor:
        spoilt = torch.tensor([[NAN if seed == 5 else 1.0] for seed in seeds_B])
        return decode(rows_BD * spoilt, seeds_B)

    begun = rows(3)
    found = steered(begun, [[20.0, NAN]] * 3, decode=broken, seeds=[4, 5, 6])
    assert torch.equal(found.rows_Bd[1], begun[1])
    assert found.steps_B[1] == 0
    fine = steered(begun[[0, 2]], [[20.0, NAN]] * 2, seeds=[4, 6])
    assert torch.equal(found.rows_Bd[[0, 2]], fine.rows_Bd)


def test_an_image_whose_gradient_is_not_finite_stops_and_the_others_go_on():
    def kinked(images: Tensor) -> Tensor:
        first = images.flatten(1)[:, :1]
        here = first.detach() == rows(3)[1, 0]
        return read(images) + torch.where(here, (first - first.detach()).abs(), 1.0).sqrt()  # 0, of slope infinity

    def plain(rows_BD: Tensor, seeds_B: Sequence[int]) -> Tensor:
        return decode(rows_BD, [0] * len(seeds_B))

    found = steered(rows(3), [[20.0, NAN]] * 3, read=kinked, decode=plain)
    assert found.rows_Bd.isfinite().all()
    assert torch.equal(found.rows_Bd[1], rows(3)[1])
    assert found.steps_B[1] == 0
    assert min(found.steps_B[0], found.steps_B[2]) > 0


def test_nothing_is_left_behind_that_needs_a_gradient():
    begun = rows(2)
    found = steered(begun, [[20.0, NAN]] * 2)
    assert not found.rows_Bd.requires_grad
    assert not begun.requires_grad


@pytest.mark.parametrize("at_least", [False, True])
def test_what_is_descended_is_what_is_reported_as_missed(at_least: bool) -> None:
    known = AttributeRange(-30.0, 30.0, 5.0, at_least)
    values, targets = [-9.0, 3.0, 12.0], [4.0, 3.0, -2.0]
    expected = [known.miss(value, target) for value, target in zip(values, targets, strict=True)]
    assert missed(torch.tensor(values), torch.tensor(targets), known).tolist() == expected
    assert expected == ([13.0, 0.0, 0.0] if at_least else [13.0, 0.0, 14.0])
