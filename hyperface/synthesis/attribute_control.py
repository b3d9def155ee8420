"""Attribute control: move the embedding of each image until its picture has the attributes that are wanted of it.

AttrOP of Vec2Face (Wu et al., ICLR 2025, arXiv 2409.02979), with the bound of Vec2Face+ (arXiv 2507.17192).

Shape legend: B images, d embedding dimensions, A attributes, H = W: pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from hyperface.models.protocols import AttributeRange

Decode = Callable[[Tensor, Sequence[int]], Tensor]
"""Rows [B, d] and a seed for each -> images [B, 3, H, W] in [-1, 1]; each image of its own row alone."""
Look = Callable[[Tensor], Tensor]
"""Images [B, 3, H, W] in [-1, 1] -> [B, d] features of any length, or [B, A] values."""

IDENTITY_WEIGHT = 100.0
"""Weight of the identity's hinge, as published."""
ATTRIBUTE_WEIGHT = 5.0
"""Weight of an attribute's hinge in units of its tolerance: with 5 degrees for yaw, 1 per degree, as published."""
INNER = 0.5
"""Share of the tolerance at which an image is left alone: JPEG and rounding move what is read a little."""
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Settings:
    """Settings of the search."""

    steps: int = 30
    """Largest number of steps of an image, at least 1."""
    learning_rate: float = 0.1
    """Learning rate of Adam, in units of |x| / sqrt(d)."""
    margin: float = 0.7
    """Cosine between an image and its reference from which on identity costs nothing."""


@dataclass(frozen=True)
class Steered:
    """The result for a batch; row i is that of image i."""

    rows_Bd: Tensor
    """Rows at which each image is drawn, of the norm that it began with."""
    steps_B: list[int]
    """Steps that each took; 0 for one that began where it was wanted."""


def steer(
    rows_Bd: Tensor,
    seeds_B: Sequence[int],
    centres_Bd: Tensor,
    targets_BA: Tensor,
    ranges_A: Sequence[AttributeRange],
    decode: Decode,
    recognize: Look,
    read: Look,
    settings: Settings,
) -> Steered:
    """Descend the gradient on the row of each image, for all images of a batch at once.

    Minimised is 100 max(0, margin - cos(F(image), centre)) + 5 sum over attributes of max(0, miss - tolerance / 2) /
    tolerance, where a miss is |value - target|, or target - value where more is as good. An image whose sum is 0 is
    left alone and costs nothing more; one that takes all steps keeps the best of the rows it has been at, by this sum.

    Paper: 100 (1 - cos), never 0. Here: a margin, because a pull to the centre that never ends undoes the variation
    within the identity, and an image could not be done.
    Paper: Adam, lr 0.1, on features of norm 22 in 512 dimensions. Here: lr in units of |x| / sqrt(d), and |x| is
    restored after each step, so that 0.1 means the same for unit embeddings, and a generator gets the norm it is used
    to.
    Paper: |yaw| meets its target. Here: yaw with its sign, so that both sides of a face can be asked for.
    Vec2Face repeats until all images of a batch are met, which may be never; Vec2Face+ at most 30 times. Here: at most
    `settings.steps` times, each image for itself.

    Args:
        rows_Bd: float32, of any norm above 0.
        centres_Bd: reference of the identity of each image, of any norm above 0.
        targets_BA: NaN where nothing is wanted.

    An image depends on its own row, seed, centre and targets, but for the rounding of sums, which `decode` may do in
    another order for another batch. A row whose gradient is not finite stays at the best row before.
    """
    length_B1 = rows_Bd.norm(dim=1, keepdim=True)
    unit_B1 = length_B1 / rows_Bd.shape[1] ** 0.5
    z_Bd = (rows_Bd / unit_B1).detach().clone()
    first_Bd, second_Bd = torch.zeros_like(z_Bd), torch.zeros_like(z_Bd)
    best_Bd, best_B = z_Bd.clone(), torch.full((len(z_Bd),), torch.inf)
    steps_B = [0] * len(z_Bd)
    active = torch.arange(len(z_Bd))
    for step in range(settings.steps + 1):
        with torch.enable_grad():
            moved_bd = z_Bd[active].requires_grad_()
            images = decode(moved_bd * unit_B1[active], [seeds_B[int(i)] for i in active])
            cosine_b = cosine_similarity(recognize(images), centres_Bd[active])
            loss_b = _loss(cosine_b, read(images), targets_BA[active], ranges_A, settings.margin)
        better = loss_b.detach() < best_B[active]
        best_B[active[better]], best_Bd[active[better]] = loss_b.detach()[better], z_Bd[active[better]]
        going = (loss_b.detach() > 0).nonzero()[:, 0]  # false for NaN
        if step == settings.steps or not len(going):
            break
        (gradient_bd,) = torch.autograd.grad(loss_b[going].sum(), moved_bd)
        going = going[gradient_bd[going].isfinite().all(1)]
        active, gradient_bd = active[going], gradient_bd[going]
        first_Bd[active] = _BETA_1 * first_Bd[active] + (1 - _BETA_1) * gradient_bd
        second_Bd[active] = _BETA_2 * second_Bd[active] + (1 - _BETA_2) * gradient_bd.square()
        mean_bd = first_Bd[active] / (1 - _BETA_1 ** (step + 1))
        spread_bd = (second_Bd[active] / (1 - _BETA_2 ** (step + 1))).sqrt() + _EPSILON
        z_Bd[active] = _on_sphere(z_Bd[active] - settings.learning_rate * mean_bd / spread_bd)
        for i in active.tolist():
            steps_B[i] = step + 1
        if not len(active):
            break
    untouched = torch.tensor(steps_B) == 0
    return Steered(torch.where(untouched[:, None], rows_Bd, best_Bd * unit_B1), steps_B)


def _on_sphere(z_bd: Tensor) -> Tensor:
    on_sphere_bd: Tensor = nn.functional.normalize(z_bd) * z_bd.shape[1] ** 0.5
    return on_sphere_bd


def _loss(
    cosine_b: Tensor, values_bA: Tensor, targets_bA: Tensor, ranges_A: Sequence[AttributeRange], margin: float
) -> Tensor:
    loss_b = IDENTITY_WEIGHT * (margin - cosine_b).clamp(min=0)
    for a, known in enumerate(ranges_A):
        wanted_b = targets_bA[:, a].isfinite()
        target_b = torch.where(wanted_b, targets_bA[:, a], values_bA[:, a].detach())
        miss_b = missed(values_bA[:, a], target_b, known)
        loss_b = loss_b + ATTRIBUTE_WEIGHT * (miss_b / known.tolerance - INNER).clamp(min=0)
    return loss_b


def missed(value_B: Tensor, target_B: Tensor, known: AttributeRange) -> Tensor:
    """Compute `AttributeRange.miss` of each row, so that gradients pass: [B]."""
    return (target_B - value_B).clamp(min=0) if known.at_least else (value_B - target_B).abs()
