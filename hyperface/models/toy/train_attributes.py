"""Training of the reader of yaw and light, from renders whose angles are known.

Shape legend: B images of a batch, H = W = 64.
"""

import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hyperface.models.pixels import to_signal
from hyperface.models.toy.attributes import LIGHT_DEGREES, YAW_DEGREES
from hyperface.models.toy.renderer import NUISANCE_TRAITS, render, sample_identities, sample_nuisance
from hyperface.models.toy.train_recognizer import soften

ATTRIBUTE_SEED = 5005
"""Seed of the identities that are trained on; see `faces.py`."""
HELD_OUT_ANGLES_SEED = 4005
"""Seed of the identities by which errors are measured."""

_LOG = logging.getLogger(__name__)
_BLOCK = 512
_REACH = 2.5
"""Bound at which `sample_nuisance` cuts its normal variables."""


def render_angles(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Renders of `count` identities, one each, with yaw and light uniform in their whole range.

    Returns uint8 [count, 64, 64, 3] and float32 [count, 2]: yaw and light in units of the nuisances.
    """
    identities, seeds = sample_identities(count, seed), [seed * 1_000_000 + row for row in range(count)]
    angles = np.random.default_rng((seed, 3)).uniform(-_REACH, _REACH, (count, 2)).astype(np.float32)
    nuisance = sample_nuisance(seeds)
    nuisance[:, [NUISANCE_TRAITS.index("yaw"), NUISANCE_TRAITS.index("light_azimuth")]] = angles
    blocks = [slice(i, i + _BLOCK) for i in range(0, count, _BLOCK)]
    images = [render(identities[part], nuisance[part], seeds[part]) for part in blocks]
    return np.concatenate(images), angles


def cached_angles(path: Path, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Read the renders and their angles from `path` (.npz), rendered first when the file is not there."""
    if not path.exists():
        images, angles = render_angles(count, seed)
        part = path.with_name(path.name + ".part.npz")
        np.savez(part, images=images, angles=angles)
        part.rename(path)
    with np.load(path) as found:
        return found["images"], found["angles"]


def train_angles(
    network: nn.Module,
    images_BHWC: NDArray[np.uint8],
    angles_B2: NDArray[np.float32],
    steps: int,
    seed: int,
    batch: int = 64,
    rate: float = 1.5e-3,
) -> nn.Module:
    """Regress yaw and light: Huber's loss, AdamW, one cosine cycle.

    Half of the images are mirrored, with the sign of both angles, half are softened as generated faces are, and all get
    noise: a reader that minds noise is a reader that noise can fool, and its gradient is followed.
    """
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    batch = min(batch, len(images_BHWC))
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.02)
    began = time.monotonic()
    for step in range(steps):
        warm = min(1.0, (step + 1) / 50.0)
        optimizer.param_groups[0]["lr"] = rate * warm * (0.01 + 0.495 * (1.0 + math.cos(math.pi * step / steps)))
        rows = rng.integers(0, len(images_BHWC), batch)
        signal, wanted = to_signal(images_BHWC[rows]), torch.from_numpy(angles_B2[rows])
        signal, wanted = _augmented(signal, wanted, generator)
        loss = nn.functional.smooth_l1_loss(network(signal), wanted, beta=0.2)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            _LOG.info("attributes step %d loss %.4f, %.0f s", step, loss.item(), time.monotonic() - began)
    return network.eval()


def _augmented(signal: Tensor, wanted: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    mirrored = torch.rand(len(signal), generator=generator) < 0.5
    signal = torch.where(mirrored[:, None, None, None], signal.flip(3), signal)
    wanted = torch.where(mirrored[:, None], -wanted, wanted)
    signal = soften(signal, generator)
    amount = 0.15 * torch.rand(len(signal), 1, 1, 1, generator=generator)
    return signal + amount * torch.randn(signal.shape, generator=generator), wanted


@torch.inference_mode()
def angle_errors(
    network: nn.Module, images_BHWC: NDArray[np.uint8], angles_B2: NDArray[np.float32]
) -> dict[str, float]:
    """Mean absolute error of yaw and light, and the 95th percentile of it, in degrees."""
    found = [network(to_signal(images_BHWC[i : i + _BLOCK])) for i in range(0, len(images_BHWC), _BLOCK)]
    error_B2 = np.abs(torch.cat(found).numpy() - angles_B2) * (YAW_DEGREES, LIGHT_DEGREES)
    said = {}
    for column, name in enumerate(("yaw", "light")):
        said[f"{name}_error"] = float(error_B2[:, column].mean())
        said[f"{name}_error_p95"] = float(np.quantile(error_B2[:, column], 0.95))
    return said
