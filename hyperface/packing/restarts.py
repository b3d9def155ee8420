"""The small problem, free of any gallery: many starts annealed as one batch, the tightest carried on to the end.

R: restarts, b, r: some of them, N: points, D: dimension, g: points left over.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperface.errors import ConfigError
from hyperface.packing.sphere import random_points

LARGEST = 2048
"""Most points of such a problem: each restart holds all their cosines."""
BATCH_ELEMENTS = 1 << 20
"""Number of cosines held at a time: 8 MiB, which stays in the cache. Restarts beyond it are annealed one batch after
another."""
HOTTEST, MILDEST, COLD = 2.0, 0.02, 0.015
"""First temperatures of the hottest and of the mildest restart, and the last of all, in units of 1 / sqrt(dim)."""
COLDEST = 1e-7
"""Last temperature of the second phase, in cosines: the soft maximum is then this close to the maximum."""
RATE, BETAS, EPSILON = 0.5, (0.8, 0.9), 1e-4
ORDERS = 12
"""Highest order of a start's symmetry."""


def draw(n: int, dim: int, restarts: int, seed: int) -> NDArray[np.float64]:
    """Draw starts [R, N, D]: a quarter uniform, a quarter antipodal, half invariant under a rotation of order 3 to 12.

    Steps of `best_of` commute with rotations, so that a start keeps its symmetry until rounding breaks it. Many of the
    best codes have such a symmetry, and are found from starts that do where all others end in a glass: the roots of E7
    from antipodal ones, the 112 points in R^21 with cosine 1/9 from ones of order 4. Start r does not depend on R.
    """
    return np.stack([_start(n, dim, seed, r) for r in range(restarts)])


def best_of(start_RND: NDArray[np.floating], steps: int = 600) -> NDArray[np.float64]:
    """Return the tightest set [N, D] that R starts lead to, unit rows; never worse than the best start.

    All restarts slide down the soft maximum of all their cosines while it cools for `steps` steps; the best quarter of
    them then does so for half as many, down to where its maximum cosine is within 1e-7 or so of a local optimum. They
    cool from different temperatures: hot starts find what is best for a soft repulsion, which the tightest code often
    is (24-cell, E8), mild ones what is not (13 points in R^3, 40 in R^5).

    Args:
        start_RND: rows that are not zero; number 0 cools from the hottest. Also a single set.

    Raises:
        ConfigError: more than 2048 points.
    """
    start = torch.as_tensor(start_RND).double()
    start = start[None] if start.ndim == 2 else start
    restarts, n, dim = start.shape
    refuse_large(n)
    unit = dim**-0.5
    # A golden-ratio sequence: spread evenly whatever R is, and over the kinds of `draw`; squared: most of them hot.
    mildness_R = torch.arange(restarts, dtype=torch.float64).mul((math.sqrt(5) - 1) / 2).frac().square()
    hot_R = unit * HOTTEST * (MILDEST / HOTTEST) ** mildness_R
    x_RND = _annealed(start, hot_R, unit * COLD, steps)
    kept_r = _max_cosine(x_RND).argsort()[: max(4, restarts // 4)]
    x_rND = _annealed(x_RND[kept_r], torch.full((len(kept_r),), unit * COLD, dtype=torch.float64), COLDEST, steps // 2)
    best_ND: NDArray[np.float64] = x_rND[_max_cosine(x_rND).argmin()].numpy()
    return best_ND


def refuse_large(n: int) -> None:
    """Raise ConfigError for more points than `best_of` takes."""
    if n > LARGEST:
        rule = f"holds all pairs and takes at most {LARGEST} points"
        raise ConfigError(f"packing.restarts {rule}: pack fewer identities or set packing.restarts=1; they are {n}")


def soft_maximum_gradient(x_RND: Tensor, tau_R: Tensor) -> tuple[Tensor, Tensor]:
    """Return the max cosine [R], and the gradient of tau log sum_{i != j} exp(cosine_ij / tau) on the spheres, times N.

    The rows are unit; the gradient is that of cosines, tangent to the sphere.
    """
    cosine_RNN = torch.bmm(x_RND, x_RND.mT)
    cosine_RNN.diagonal(dim1=1, dim2=2).fill_(-math.inf)
    max_R = cosine_RNN.amax((1, 2))
    weight_RNN = cosine_RNN.sub_(max_R[:, None, None]).div_(tau_R[:, None, None]).exp_()
    scale_R = 2 * x_RND.shape[1] / weight_RNN.sum((1, 2))
    pull_RND = torch.bmm(weight_RNN, x_RND) * scale_R[:, None, None]
    return max_R, pull_RND - (pull_RND * x_RND).sum(2, keepdim=True) * x_RND


def _annealed(x_RND: Tensor, hot_R: Tensor, cold: float, steps: int) -> Tensor:
    """Return the tightest iterate of each restart while its temperature falls geometrically from hot to cold."""
    size = max(1, BATCH_ELEMENTS // x_RND.shape[1] ** 2)
    batches = zip(torch.split(x_RND, size), torch.split(hot_R, size), strict=True)
    return torch.cat([_anneal_batch(x_bND, hot_b, cold, steps) for x_bND, hot_b in batches])


def _anneal_batch(x_RND: Tensor, hot_R: Tensor, cold: float, steps: int) -> Tensor:
    """Minimise the soft maximum by Adam (Kingma and Ba, ICLR 2015), with steps of RATE * temperature.

    Paper: second moments of each coordinate. Here: of each row, the mean over its coordinates, because steps then
    commute with rotations and a symmetric set stays symmetric. In float64, because rounding breaks symmetry as well:
    the roots of E7 are found from 2 of 24 antipodal starts in float32, from 12 or more in float64.
    """
    x_RND = x_RND / x_RND.norm(dim=2, keepdim=True)
    mean_RND, square_RN1 = torch.zeros_like(x_RND), torch.zeros_like(x_RND[:, :, :1])
    best_RND, best_R = x_RND, torch.full_like(hot_R, math.inf)
    for step in range(steps):
        tau_R = hot_R * (cold / hot_R) ** (step / max(1, steps - 1))
        max_R, gradient_RND = soft_maximum_gradient(x_RND, tau_R)
        best_RND = torch.where((max_R < best_R)[:, None, None], x_RND, best_RND)
        best_R = torch.minimum(max_R, best_R)
        mean_RND.lerp_(gradient_RND, 1 - BETAS[0])
        square_RN1.lerp_(gradient_RND.square().mean(2, keepdim=True), 1 - BETAS[1])
        size_RN1 = (square_RN1 / (1 - BETAS[1] ** (step + 1))).sqrt() + EPSILON
        change_RND = mean_RND / (1 - BETAS[0] ** (step + 1)) / size_RN1
        x_RND = x_RND - RATE * tau_R[:, None, None] * change_RND
        x_RND = x_RND / x_RND.norm(dim=2, keepdim=True)
    return torch.where((_max_cosine(x_RND) < best_R)[:, None, None], x_RND, best_RND)


def _max_cosine(x_RND: Tensor) -> Tensor:
    minus_two_NN = -2 * torch.eye(x_RND.shape[1], dtype=x_RND.dtype)
    size = max(1, BATCH_ELEMENTS // x_RND.shape[1] ** 2)
    return torch.cat([(x_bND @ x_bND.mT + minus_two_NN).amax((1, 2)) for x_bND in torch.split(x_RND, size)])


def _start(n: int, dim: int, seed: int, r: int) -> NDArray[np.float64]:
    rng = np.random.default_rng([seed, 2, r])
    drawn_ND = random_points(n, dim, int(rng.integers(1 << 62))).astype(np.float64)
    kind = r % 4
    if kind == 0 or n < 3:
        return drawn_ND
    order = 2 if kind == 1 else int(rng.integers(3, min(ORDERS, n) + 1))
    return _symmetric(drawn_ND, _rotation(dim, order, rng, alike=kind == 2), order)


def _rotation(dim: int, order: int, rng: np.random.Generator, alike: bool) -> NDArray[np.float64]:
    """Return an orthogonal matrix whose power `order` is the identity; of order 2: the point reflection.

    It turns each plane of two coordinates by a multiple of 2 pi / order, the same for all planes if `alike`.
    """
    turns = np.ones(dim // 2) if alike else rng.integers(1, order, dim // 2)
    rotation_DD = np.eye(dim)
    for plane, turn in enumerate(turns):
        angle, two = 2 * math.pi * turn / order, slice(2 * plane, 2 * plane + 2)
        rotation_DD[two, two] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    if dim % 2 and (order == 2 or (order % 2 == 0 and rng.random() < 0.5)):
        rotation_DD[-1, -1] = -1
    return rotation_DD


def _symmetric(drawn_ND: NDArray[np.float64], rotation_DD: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Return as many whole orbits as N has room for; rows left over lie on the axis, if there is one."""
    orbits, left = divmod(len(drawn_ND), order)
    images = [drawn_ND]
    for _ in range(order - 1):
        images.append(images[-1] @ rotation_DD.T)
    left_gD = drawn_ND[len(drawn_ND) - left :]
    axial_gD = np.mean(images, 0)[len(drawn_ND) - left :]
    length_g1 = np.linalg.norm(axial_gD, axis=1, keepdims=True)
    rest_gD = axial_gD / length_g1 if left and length_g1.min() > 1e-6 else left_gD
    return np.concatenate([*(image_ND[:orbits] for image_ND in images), rest_gD])
