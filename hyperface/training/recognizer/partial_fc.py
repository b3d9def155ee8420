"""The last layer of training: a centre per class, divided among ranks by class, with the margin softmax over all.

Partial FC (An et al., "Killing Two Birds with One Stone", CVPR 2022): each rank holds the centres of consecutive
classes, and every image of a step meets all of them; only a sample of the other classes takes part in a step, so that
a million classes fit. No gradient of a centre ever travels.

Shape legend: B images of a step over all ranks, b of this rank, C classes, c of this rank, s sampled ones of this rank,
D embedding dimension, W ranks.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hyperface.distributed.ranks import Group, part_of
from hyperface.run.seeds import seed_of
from hyperface.training.recognizer import margins
from hyperface.training.recognizer.margins import FeatureNorms

_BLOCK = 4096
"""Number of centres that are drawn from one seed, so that they do not depend on the number of ranks."""


@dataclass(frozen=True)
class Head:
    """The margin softmax: which, with its scale, margin and share of sampled classes."""

    kind: Literal["arcface", "cosface", "adaface"]
    scale: float
    margin: float
    sample_rate: float = 1.0


@dataclass(frozen=True)
class Update:
    """The settings of a step of SGD."""

    learning_rate: float
    momentum: float
    weight_decay: float


@dataclass(frozen=True)
class Ranks:
    """The division of the classes, and of the images of a step, among ranks."""

    rank: int
    group: Group
    classes: tuple[int, ...]
    """Number of classes of each rank, which add up to C."""
    images: tuple[int, ...]
    """Number of images of each rank in a step, which add up to B."""

    @property
    def own_classes(self) -> slice:
        return part_of(self.classes, self.rank)

    @property
    def own_images(self) -> slice:
        return part_of(self.images, self.rank)


class Centres:
    """The centres of this rank's classes, with their momentum and, for AdaFace, the running feature norms."""

    def __init__(self, ranks: Ranks, head: Head, dim: int, seed: int, device: torch.device) -> None:
        self.ranks, self.head, self.seed = ranks, head, seed
        self.weight_cD = _drawn(ranks.own_classes, dim, seed).to(device)
        self.momentum_cD = torch.zeros_like(self.weight_cD)
        self.norms = FeatureNorms()

    def step(self, features_bD: Tensor, labels_b: Tensor, step: int, update: Update) -> tuple[Tensor, Tensor]:
        """Move the centres; return the loss and its gradient for the own features. Every rank calls it.

        Args:
            features_bD: float32, as the backbone gives them.
            labels_b: int64 in [0, C).
            step: chooses the sample of the classes.

        Returns:
            The mean loss over all B images, and the own rows [b, D] of its gradient.
        """
        own, group = self.ranks.own_classes, self.ranks.group
        features_BD = group.gather(features_bD.detach(), self.ranks.images)()
        labels_B = group.gather(labels_b, self.ranks.images)()
        sampled_s = self._sample(labels_B, step)
        there_B, place_B = _places(labels_B, own, sampled_s)
        features_BD = features_BD.requires_grad_(True)
        centres_sD = self.weight_cD[sampled_s].requires_grad_(True)
        with torch.enable_grad():
            logits_Bs = self._logits(features_BD, centres_sD, there_B, place_B)
        loss, gradient_Bs = _softmax(logits_Bs.detach(), there_B, place_B, self.ranks)
        torch.autograd.backward(logits_Bs, gradient_Bs)
        assert features_BD.grad is not None
        assert centres_sD.grad is not None
        self._move(sampled_s, centres_sD.grad, update)
        return loss, group.sum(features_BD.grad, self.ranks.images)

    def _sample(self, labels_B: Tensor, step: int) -> Tensor:
        """Return the own classes of a step, ascending, counted from the first own one: those of the batch, and a
        choice.

        Paper: exactly a share of each rank's classes. Here: each class with that probability, so that the choice does
        not depend on the number of ranks.
        """
        own, device = self.ranks.own_classes, labels_B.device
        count = own.stop - own.start
        if self.head.sample_rate >= 1:
            return torch.arange(count, device=device)
        generator = torch.Generator(device).manual_seed(seed_of("classes", self.seed, step))
        kept_C = torch.rand(sum(self.ranks.classes), generator=generator, device=device) < self.head.sample_rate
        kept_C[labels_B] = True
        return kept_C[own].nonzero()[:, 0]

    def _logits(self, features_BD: Tensor, centres_sD: Tensor, there_B: Tensor, place_B: Tensor) -> Tensor:
        norms_B = features_BD.norm(dim=1)
        cosines_Bs = (normalize(features_BD) @ normalize(centres_sD).T).clamp(-1, 1)
        quality_B = self.norms.quality(norms_B) if self.head.kind == "adaface" else None
        rows = there_B.nonzero()[:, 0]
        target = cosines_Bs[rows, place_B[rows]]
        match self.head.kind:
            case "arcface":
                target = margins.arcface(target, self.head.margin)
            case "cosface":
                target = margins.cosface(target, self.head.margin)
            case "adaface":
                assert quality_B is not None
                target = margins.adaface(target, quality_B[rows], self.head.margin)
        return self.head.scale * cosines_Bs.index_put((rows, place_B[rows]), target)

    def _move(self, sampled_s: Tensor, gradient_sD: Tensor, update: Update) -> None:
        """Take a step of SGD with momentum on the sampled centres; the others, and their momentum, stay as they are."""
        weight_sD = self.weight_cD[sampled_s]
        speed_sD = update.momentum * self.momentum_cD[sampled_s] + gradient_sD + update.weight_decay * weight_sD
        self.momentum_cD[sampled_s] = speed_sD
        self.weight_cD[sampled_s] = weight_sD - update.learning_rate * speed_sD


def _softmax(logits_Bs: Tensor, there_B: Tensor, place_B: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Return the mean cross entropy over classes that no rank has all of, and its gradient for the own logits."""
    group, count = ranks.group, len(logits_Bs)
    least_B = logits_Bs.new_full((count,), -torch.inf)
    largest_B = group.max(logits_Bs.amax(1) if logits_Bs.shape[1] else least_B)
    raised_Bs = (logits_Bs - largest_B[:, None]).exp_()
    rows = there_B.nonzero()[:, 0]
    own_target_B = torch.where(there_B, 0.0, least_B)
    own_target_B[rows] = logits_Bs[rows, place_B[rows]]
    target_B, total_B = group.max(own_target_B), _summed(raised_Bs.sum(1), ranks)
    loss = (largest_B + total_B.log() - target_B).mean()
    gradient_Bs = raised_Bs.div_(total_B[:, None])
    gradient_Bs[rows, place_B[rows]] -= 1
    return loss, gradient_Bs.div_(count)


def _summed(values_B: Tensor, ranks: Ranks) -> Tensor:
    """Return the sum over ranks, on every rank."""
    return ranks.group.gather(values_B[None], (1,) * len(ranks.images))().sum(0)


def _places(labels_B: Tensor, own: slice, sampled_s: Tensor) -> tuple[Tensor, Tensor]:
    """Return (whether this rank has the class of each image, its column among the sampled classes)."""
    there_B = (labels_B >= own.start) & (labels_B < own.stop)
    place_B = torch.searchsorted(sampled_s, (labels_B - own.start).contiguous())
    return there_B, torch.where(there_B, place_B, 0)


def _drawn(rows: slice, dim: int, seed: int) -> Tensor:
    """Draw rows of the initial centres: normal with deviation 0.01, as InsightFace's code draws them."""
    blocks = []
    for block in range(rows.start // _BLOCK, -(-rows.stop // _BLOCK)):
        generator = torch.Generator().manual_seed(seed_of("centres", seed, block))
        drawn = torch.randn(_BLOCK, dim, generator=generator) * 0.01
        first = block * _BLOCK
        blocks.append(drawn[max(rows.start - first, 0) : rows.stop - first])
    return torch.cat(blocks) if blocks else torch.empty(0, dim)
