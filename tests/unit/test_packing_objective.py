"""The blocked objective and its analytic gradient, against plain autograd in float64."""

import itertools
import math

import pytest
import torch
from threaded_ranks import on_ranks
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hyperface.packing import objective, sphere
from hyperface.packing.shard import even_sizes, one_process

SEPARATIONS = ["closest_pair", "nearest", "logsumexp"]


def points(n: int, dim: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sphere.normalise(torch.randn(n, dim, generator=generator, dtype=dtype))


def plain_loss(x_ND: Tensor, gallery_GD: Tensor | None, separation: str, alpha: float, tau: float) -> Tensor:
    """The definition, on the whole matrix."""
    cosine_NN = (x_ND @ x_ND.T).masked_fill(torch.eye(len(x_ND), dtype=torch.bool), -math.inf)
    if separation == "closest_pair":
        loss = cosine_NN.max()
    elif separation == "nearest":
        loss = cosine_NN.amax(1).mean()
    else:
        loss = tau * (torch.logsumexp(cosine_NN.flatten() / tau, 0) - math.log(2))
    return loss if gallery_GD is None else loss + alpha * (1 - (x_ND @ gallery_GD.T).amax(1)).mean()


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("gallery_rows", [0, 23])
@pytest.mark.parametrize("world_size", [1, 3])
def test_loss_and_gradient_equal_autograd_of_the_definition(separation, gallery_rows, world_size):
    x_ND = points(31, 7, 0).requires_grad_()
    gallery_GD = points(gallery_rows, 7, 1) if gallery_rows else None
    loss = plain_loss(x_ND, gallery_GD, separation, 0.7, 0.05)
    (gradient_ND,) = torch.autograd.grad(loss, x_ND)
    x_ND = x_ND.detach()

    def evaluate(shard):
        return objective.evaluate(x_ND[shard.own], gallery_GD, shard, separation, 0.7, 0.05)

    values = on_ranks(even_sizes(31, world_size), evaluate)
    torch.testing.assert_close(torch.cat([value.gradient_LD for value in values]), gradient_ND)
    cosine_NN = (x_ND @ x_ND.T).fill_diagonal_(-1)
    for value in values:
        assert value.loss == pytest.approx(loss.item(), rel=1e-12)
        assert value.max_cosine == pytest.approx(cosine_NN.max().item())
        assert value.mean_nearest_cosine == pytest.approx(cosine_NN.amax(1).mean().item())
        assert (value.mean_gallery_cosine is None) == (gallery_GD is None)


def test_the_soft_maximum_is_finite_and_near_the_maximum_when_cold():
    x_ND = points(50, 16, 0, torch.float32)
    value = objective.evaluate(x_ND, None, one_process(50), "logsumexp", 0.0, tau=1e-5)
    assert value.max_cosine <= value.loss <= value.max_cosine + 1e-5 * math.log(50 * 49 / 2)
    assert torch.isfinite(value.gradient_LD).all()


@pytest.mark.parametrize("separation", SEPARATIONS)
def test_a_rank_without_rows_takes_part(separation):
    x_ND = points(9, 4, 0)
    whole = objective.evaluate(x_ND, x_ND, one_process(9), separation, 0.5, 0.1)
    sizes = (5, 0, 4)
    values = on_ranks(sizes, lambda shard: objective.evaluate(x_ND[shard.own], x_ND, shard, separation, 0.5, 0.1))
    torch.testing.assert_close(torch.cat([value.gradient_LD for value in values]), whole.gradient_LD)
    assert values[1].loss == pytest.approx(whole.loss)


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        made = operation(*arguments, **(named or {}))
        tensors = [each for each in (made if isinstance(made, tuple) else (made,)) if isinstance(each, Tensor)]
        self.elements = max([self.elements, *(each.numel() for each in tensors)])
        return made


@pytest.mark.parametrize("separation", SEPARATIONS)
def test_no_matrix_of_all_pairs_is_ever_held(separation):
    n = 6000
    x_ND = points(n, 4, 0, torch.float32)
    with LargestTensor() as largest:
        blocked = objective.evaluate(x_ND, x_ND, one_process(n), separation, 0.5, 0.01)
    assert largest.elements <= objective.BLOCK_ELEMENTS < n * n
    exact_NN = (x_ND.double() @ x_ND.double().T).fill_diagonal_(-1)
    assert blocked.max_cosine == pytest.approx(exact_NN.max().item(), abs=1e-6)
    assert blocked.mean_nearest_cosine == pytest.approx(exact_NN.amax(1).mean().item(), abs=1e-6)


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
