"""Training of the autoencoder: absolute error of pixels and of their differences.

Shape legend: B images of a batch, 3 colours, H = W = 64.
"""

import copy
import logging
import math
import time

import numpy as np
import torch
from torch import Tensor, nn

from hyperface.models.pixels import to_signal
from hyperface.models.toy.autoencoder import Autoencoder
from hyperface.models.toy.faces import FaceSet

_LOG = logging.getLogger(__name__)


def difference_loss(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute error of the horizontal and vertical differences: it punishes blur."""
    error = first - second
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return across.abs().mean() + down.abs().mean()


def train_autoencoder(faces: FaceSet, steps: int, seed: int, batch: int = 48, rate: float = 2e-3) -> Autoencoder:
    """Train encoder and decoder on renders.

    Latents get noise while training, so that the decoder forgives what diffusion leaves. Adam, one cosine cycle,
    bfloat16 convolutions, averaged weights. Returns the network in evaluation mode with its latent statistics set.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    batch = min(batch, len(faces.images_BHWC))
    network = Autoencoder()
    average = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, 0.98))
    began = time.monotonic()
    for step in range(steps):
        warm = min(1.0, (step + 1) / 100.0)
        optimizer.param_groups[0]["lr"] = rate * warm * (0.02 + 0.49 * (1.0 + math.cos(math.pi * step / steps)))
        signal = to_signal(faces.images_BHWC[np.sort(rng.integers(0, len(faces.images_BHWC), batch))])
        with torch.autocast("cpu", torch.bfloat16):
            latents = network.encoder(signal)
            noise = 0.08 * torch.randn(latents.shape, generator=generator)
            decoded = network.decoder(latents + noise).float()
        loss = (decoded - signal).abs().mean() + difference_loss(decoded, signal)
        loss = loss + 0.002 * latents.float().square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        blend_weights(average, network, min(0.995, step / (step + 10.0)))
        if step % 50 == 0 or step == steps - 1:
            error = (decoded - signal).abs().mean().item() / 2.0
            speed = (step + 1) * batch / (time.monotonic() - began)
            _LOG.info("autoencoder step %d loss %.4f error %.4f, %.0f images/s", step, loss.item(), error, speed)
    average.standardise(to_signal(faces.images_BHWC[:: max(1, len(faces.images_BHWC) // 1024)]))
    return average.eval()


@torch.no_grad()
def blend_weights(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Set average = keep * average + (1 - keep) * network, for every parameter."""
    for old, new in zip(average.parameters(), network.parameters(), strict=True):
        old.lerp_(new, 1.0 - keep)
