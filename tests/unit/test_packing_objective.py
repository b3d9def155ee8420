"""The blocked objective and its analytic gradient, against plain autograd in float64."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from threaded_ranks import on_ranks
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hyperface.config import PackingConfig
from hyperface.distributed.ranks import even_sizes
from hyperface.packing import kernel, objective, objectives, sphere
from hyperface.packing.kernel import Block, SoftPairs
from hyperface.packing.objective import Against, Separation, Terms
from hyperface.packing.partition import Partition, one_process

SEPARATIONS = ["closest_pair", "nearest", "logsumexp"]


def points(n: int, dim: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sphere.normalise(torch.randn(n, dim, generator=generator, dtype=dtype))


def cosines(x_ND: Tensor, frozen_FD: Tensor | None) -> Tensor:
    """Return the cosines of each row with all rows and then with the frozen ones; -inf with itself."""
    cosine_NN = (x_ND @ x_ND.T).masked_fill(torch.eye(len(x_ND), dtype=torch.bool), -math.inf)
    return cosine_NN if frozen_FD is None else torch.cat([cosine_NN, x_ND @ frozen_FD.T], 1)


def plain_loss(
    x_ND: Tensor, gallery_GD: Tensor | None, frozen_FD: Tensor | None, separation: str, alpha: float, tau: float
) -> Tensor:
    """The definition, on the whole matrix."""
    cosine_NM = cosines(x_ND, frozen_FD)
    if separation == "closest_pair":
        loss = cosine_NM.max()
    elif separation == "nearest":
        loss = cosine_NM.amax(1).mean()
    else:
        once_NM = torch.cat(
            [
                cosine_NM[:, : len(x_ND)]
                .triu(1)
                .masked_fill(torch.ones(len(x_ND), len(x_ND), dtype=torch.bool).tril(), -math.inf),
                cosine_NM[:, len(x_ND) :],
            ],
            1,
        )
        loss = tau * torch.logsumexp(once_NM.flatten() / tau, 0)
    return loss if gallery_GD is None else loss + alpha * (1 - (x_ND @ gallery_GD.T).amax(1)).mean()


def terms(alpha: float = 0.0, tau: float = 0.05, shift: float = 1.0) -> Terms:
    return Terms(alpha, tau, torch.tensor(shift, dtype=torch.float64), torch.float64)


def called(name: str) -> Separation:
    return objectives.chosen(PackingConfig(separation=name))  # type: ignore[arg-type] # one of SEPARATIONS


def nearest_rows(x_ND: Tensor, gallery_GD: Tensor) -> Tensor:
    return gallery_GD[(x_ND @ gallery_GD.T).argmax(1)]


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("gallery_rows", [0, 23])
@pytest.mark.parametrize("frozen_rows", [0, 9])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_loss_and_gradient_equal_autograd_of_the_definition(
    separation, gallery_rows, frozen_rows, world_size, monkeypatch
):
    monkeypatch.setitem(kernel.TILE, "cpu", 5)
    x_ND = points(31, 7, 0).requires_grad_()
    gallery_GD = points(gallery_rows, 7, 1) if gallery_rows else None
    frozen_FD = points(frozen_rows, 7, 2) if frozen_rows else None
    loss = plain_loss(x_ND, gallery_GD, frozen_FD, separation, 0.7, 0.05)
    (gradient_ND,) = torch.autograd.grad(loss, x_ND)
    x_ND = x_ND.detach()
    near_ND = None if gallery_GD is None else nearest_rows(x_ND, gallery_GD)

    def evaluate(shard):
        near_LD = None if near_ND is None else near_ND[shard.own]
        return objective.evaluate(x_ND[shard.own], near_LD, shard, called(separation), terms(0.7), Against(frozen_FD))

    values = on_ranks(even_sizes(31, world_size), evaluate)
    torch.testing.assert_close(torch.cat([value.gradient_LD for value in values]), gradient_ND)
    cosine_NN = cosines(x_ND, frozen_FD)
    for value in values:
        assert value.loss.item() == pytest.approx(loss.item(), abs=1e-7)
        assert value.max_cosine.item() == pytest.approx(cosine_NN.max().item())
        assert value.mean_nearest_cosine.item() == pytest.approx(cosine_NN.amax(1).mean().item())
        assert (value.mean_gallery_cosine is None) == (gallery_GD is None)


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("world_size", [1, 3])
def test_a_choice_of_rows_that_looks_at_all_gets_their_gradient(separation, world_size, monkeypatch):
    """The gradient is of the mean over the chosen rows (nearest), their closest pair, or all pairs that they are in
    (logsumexp)."""
    monkeypatch.setitem(kernel.TILE, "cpu", 5)
    x_ND, frozen_FD = points(31, 7, 0), points(4, 7, 2)
    chosen_b = np.array([2, 3, 11, 12, 19, 30])
    own_bD = x_ND[chosen_b].requires_grad_()
    cosine_bM = own_bD @ torch.cat([x_ND, frozen_FD]).T
    cosine_bM = cosine_bM.masked_fill(torch.arange(35) == torch.from_numpy(chosen_b)[:, None], -math.inf)
    if separation == "nearest":
        loss = cosine_bM.amax(1).mean()
    elif separation == "closest_pair":
        loss = cosine_bM.max()
    else:
        weight_M = torch.where(torch.arange(35) < 31, 0.5, 1.0)
        loss = 0.05 * torch.log((weight_M * torch.exp(cosine_bM / 0.05)).sum())
        # Its gradient counts a pair with a frozen row once and one with a moving row, which moves as well, twice.
        weighted = torch.where(torch.arange(35) < 31, 2.0, 1.0) * weight_M * torch.exp(cosine_bM / 0.05)
        expected_bD = (
            weighted @ torch.cat([x_ND, frozen_FD]) / (weight_M * torch.exp(cosine_bM / 0.05)).sum()
        ).detach()
    if separation != "logsumexp":
        (expected_bD,) = torch.autograd.grad(loss, own_bD)

    def evaluate(shard):
        of_batch = shard.of_batch(chosen_b)
        own_b = torch.from_numpy(chosen_b[of_batch.own])
        return objective.evaluate(
            x_ND[own_b], None, of_batch, called(separation), terms(), Against(frozen_FD, x_ND, own_b)
        )

    values = on_ranks(even_sizes(31, world_size), evaluate)
    torch.testing.assert_close(torch.cat([value.gradient_LD for value in values]), expected_bD)
    assert values[0].loss.item() == pytest.approx(loss.item(), abs=1e-7)


def test_mini_batches_give_the_full_gradient_on_average_up_to_the_factor_of_theorem_1():
    """HyperFace, theorem 1, for a sum over pairs: over all batches of b of n rows the factor is b(b-1)/(n(n-1))."""
    n, b = 7, 3
    x_ND, shift = points(n, 4, 0), torch.tensor(0.5, dtype=torch.float64)

    def pull(rows: list[int]) -> Tensor:
        pairs = SoftPairs(len(rows), 4, x_ND, shift, 0.3)
        pairs.look(Block(x_ND[rows], 0, x_ND[rows], 0, both=True))
        return torch.zeros_like(x_ND).index_add_(0, torch.tensor(rows), pairs.pull_ND)

    batches = [pull(list(rows)) for rows in itertools.combinations(range(n), b)]
    factor = b * (b - 1) / (n * (n - 1))
    torch.testing.assert_close(torch.stack(batches).mean(0), factor * pull(list(range(n))))


def test_the_soft_maximum_is_finite_and_near_the_maximum_when_cold():
    x_ND = points(50, 16, 0, torch.float32)
    largest = cosines(x_ND, None).max().item()
    cold = replace(terms(tau=1e-5, shift=largest), dtype=torch.float32)
    value = objective.evaluate(x_ND, None, one_process(50), called("logsumexp"), cold)
    assert value.max_cosine <= value.loss <= value.max_cosine + 1e-5 * math.log(50 * 49 / 2)
    assert torch.isfinite(value.gradient_LD).all()


@pytest.mark.parametrize("separation", SEPARATIONS)
def test_a_rank_without_rows_takes_part(separation):
    x_ND = points(9, 4, 0)
    near_ND = nearest_rows(x_ND, points(5, 4, 1))
    whole = objective.evaluate(x_ND, near_ND, one_process(9), called(separation), terms(0.5))
    values = on_ranks(
        (5, 0, 4),
        lambda shard: objective.evaluate(x_ND[shard.own], near_ND[shard.own], shard, called(separation), terms(0.5)),
    )
    torch.testing.assert_close(torch.cat([value.gradient_LD for value in values]), whole.gradient_LD)
    assert values[1].loss.item() == pytest.approx(whole.loss.item())


@pytest.mark.parametrize("separation", SEPARATIONS)
def test_bfloat16_products_give_the_gradient_to_their_precision(separation):
    x_ND = points(200, 32, 0, torch.float32)
    shift = torch.tensor(cosines(x_ND, None).max().item())
    exact, rough = (
        objective.evaluate(x_ND, None, one_process(200), called(separation), Terms(tau=0.05, shift=shift, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert rough.gradient_LD.dtype == torch.float32
    error_ND = rough.gradient_LD - exact.gradient_LD
    assert error_ND.norm() < (0.02 if separation == "logsumexp" else 0.2) * exact.gradient_LD.norm()
    assert rough.loss.item() == pytest.approx(exact.loss.item(), abs=5e-3)


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        made = operation(*arguments, **(named or {}))
        tensors = [each for each in (made if isinstance(made, tuple) else (made,)) if isinstance(each, Tensor)]
        self.elements = max([self.elements, *(each.numel() for each in tensors)])
        return made


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_matrix_of_all_pairs_is_ever_held(separation, dtype, monkeypatch):
    monkeypatch.setitem(kernel.TILE, "cpu", 100)
    n, dim = 600, 16
    x_ND = points(n, dim, 0, torch.float32)
    with LargestTensor() as largest:
        near_ND = x_ND[kernel.nearest(x_ND, x_ND)[1]]
        blocked = objective.evaluate(
            x_ND, near_ND, one_process(n), called(separation), Terms(0.5, 0.05, torch.ones(()), dtype)
        )
    assert largest.elements <= max(kernel.TILE["cpu"] ** 2, (n + 1) * dim) < n * n / 30
    exact_NN = cosines(x_ND.double(), None)
    tolerance = 1e-6 if dtype == torch.float32 else 4e-3
    assert blocked.max_cosine.item() == pytest.approx(exact_NN.max().item(), abs=tolerance)
    assert blocked.mean_nearest_cosine.item() == pytest.approx(exact_NN.amax(1).mean().item(), abs=tolerance)


def test_a_pair_is_looked_at_once_by_all_ranks_together():
    for world_size in (1, 2, 3, 4, 5, 8):
        sizes = even_sizes(21, world_size)
        looks_NN = np.zeros((21, 21), int)
        for rank in range(world_size):
            shard = Partition(sizes, rank, one_process(1).group)
            looks_NN[shard.own, shard.own] += 1
            for rows, columns in shard.rectangles():
                looks_NN[rows, columns] += 1
                looks_NN[columns, rows] += 1
        assert (looks_NN == 1).all(), world_size


def test_cosine_and_index_survive_packing_and_order_by_cosine_then_by_the_smaller_index():
    cosine_N = torch.tensor([-1.0, -0.5, -1e-8, 0.0, 1e-8, 0.25, 1.0, -math.inf])
    index_N = torch.tensor([5, 0, 2**31, 7, 2**32 - 1, 1, 3, 0])
    seen_N, found_N = kernel.unpack(kernel.pack(cosine_N, index_N))
    torch.testing.assert_close(seen_N, cosine_N, rtol=0, atol=0)
    torch.testing.assert_close(found_N, index_N)
    assert (kernel.pack(cosine_N, index_N)[:7].diff() > 0).all()
    tied_2 = kernel.pack(torch.tensor([0.5, 0.5]), torch.tensor([4, 9]))
    assert tied_2[0] > tied_2[1]


def test_the_tangent_gradient_is_perpendicular_to_its_row():
    x_ND, gradient_ND = points(20, 8, 0), torch.randn(20, 8, dtype=torch.float64)
    tangent_ND = sphere.tangent(gradient_ND, x_ND)
    assert (tangent_ND * x_ND).sum(1).abs().max() < 1e-12
    torch.testing.assert_close(((gradient_ND - tangent_ND) * x_ND).sum(1), (gradient_ND * x_ND).sum(1))


def test_shards_cover_all_rows_and_a_batch_is_shared_by_owner():
    for n, world_size in itertools.product((7, 12), (1, 2, 3, 5)):
        sizes = even_sizes(n, world_size)
        assert sum(sizes) == n
        assert max(sizes) - min(sizes) <= 1
    batch_b = torch.tensor([0, 3, 4, 9]).numpy()
    owners = on_ranks((4, 4, 4), lambda shard: shard.of_batch(batch_b).own)
    assert [batch_b[own].tolist() for own in owners] == [[0, 3], [4], [9]]
