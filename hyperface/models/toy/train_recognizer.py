"""Training of the recogniser and of the judge: a margin softmax whose class centres are a function of the traits.

Shape legend: B images of a batch, P training identities, I = IDENTITY_DIM, D = EMBEDDING_DIM.
"""

import logging
import math
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from hyperface.models.pixels import to_signal
from hyperface.models.toy.faces import FaceSet
from hyperface.models.toy.recognizer import EMBEDDING_DIM
from hyperface.models.toy.renderer import IDENTITY_DIM

_LOG = logging.getLogger(__name__)


class TraitCentres(nn.Module):
    """Class centres as a function of identity traits: [P, I] -> unit rows [P, D].

    A free centre per class learns from its own few images only. A centre computed from the traits learns from every
    image, so thousands of classes converge within a few epochs, and traits that differ must be told apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(IDENTITY_DIM, 256), nn.SiLU(), nn.Linear(256, EMBEDDING_DIM))
        self.skip = nn.Linear(IDENTITY_DIM, EMBEDDING_DIM)

    def forward(self, traits_PI: Tensor) -> Tensor:
        return normalize(self.net(traits_PI) + self.skip(traits_PI))


def margin_loss(embeddings_BD: Tensor, centres_PD: Tensor, labels_B: Tensor, scale: float, margin: float) -> Tensor:
    """CosFace (Wang et al., CVPR 2018): softmax over cosines, `margin` taken off the cosine of the true class."""
    cosines_BP = embeddings_BD @ centres_PD.T
    offset_BP = torch.zeros_like(cosines_BP).scatter_(1, labels_B[:, None], margin)
    return cross_entropy(scale * (cosines_BP - offset_BP), labels_B)


def soften(signal: Tensor, generator: torch.Generator) -> Tensor:
    """Blur half of the images by up to one pixel: generated faces are softer than rendered ones."""
    amount = torch.rand(len(signal), 1, 1, 1, generator=generator) * (
        torch.rand(len(signal), 1, 1, 1, generator=generator) < 0.5
    )
    blurred = nn.functional.avg_pool2d(nn.functional.pad(signal, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return signal + amount * (blurred - signal)


def train_recognizer(
    network: nn.Module,
    faces: FaceSet,
    steps: int,
    seed: int,
    batch: int = 128,
    rate: float = 2e-3,
    scale: float = 32.0,
    margin: float = 0.3,
    pull: float = 1.0,
) -> nn.Module:
    """Train `network` ([B, 3, 64, 64] in [-1, 1] -> [B, D]) to tell the identities of `faces` apart.

    `pull` weighs 1 - cosine to the own centre next to the margin softmax: it raises the cosine between two images of
    one identity, by which generators are measured. AdamW, one cycle (5 % warm-up, cosine to zero), bfloat16
    convolutions. Returns the network in evaluation mode. The result depends on the seed and the machine's arithmetic.
    """
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    centres = TraitCentres()
    traits_PI = torch.from_numpy(faces.identities_PI)
    network.train()
    optimizer = torch.optim.AdamW([*network.parameters(), *centres.parameters()], lr=rate, weight_decay=0.02)
    labels_all = faces.labels_B
    batch = min(batch, len(labels_all))
    began = time.monotonic()
    for step in range(steps):
        _set_rate(optimizer, rate, step, steps)
        rows = np.sort(rng.choice(len(labels_all), batch, replace=False))
        labels_B = torch.from_numpy(labels_all[rows])
        signal = soften(to_signal(faces.images_BHWC[rows]), generator)
        with torch.autocast("cpu", torch.bfloat16):
            raw_BD = network(signal)
        embeddings_BD = normalize(raw_BD.float())
        centres_PD = centres(traits_PI)
        own_B = (embeddings_BD * centres_PD[labels_B]).sum(1)
        loss = margin_loss(embeddings_BD, centres_PD, labels_B, scale, margin) + pull * (1.0 - own_B).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            speed = (step + 1) * batch / (time.monotonic() - began)
            _LOG.info("step %d loss %.3f own cosine %.3f, %.0f images/s", step, loss.item(), own_B.mean().item(), speed)
    return network.eval()


def _set_rate(optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    warm = min(1.0, (step + 1) / max(1.0, 0.05 * steps))
    for group in optimizer.param_groups:
        group["lr"] = rate * warm * 0.5 * (1.0 + math.cos(math.pi * step / steps))
