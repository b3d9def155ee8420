"""The second training of the decoder, which makes it sharp, and true to an identity that it is given.

Shape legend: B images of a batch, P identities, K renders of each, D = 128 embedding dimensions, H = W = 64.
"""

import copy
import itertools
import logging
import math
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cosine_similarity

from hyperface.models.pixels import to_signal
from hyperface.models.toy.autoencoder import Autoencoder
from hyperface.models.toy.diffusion_generator import make_condition
from hyperface.models.toy.faces import FaceSet
from hyperface.models.toy.render_generator import Inverter
from hyperface.models.toy.train_autoencoder import blend_weights, difference_loss
from hyperface.models.toy.train_generators import mix_embeddings

_LOG = logging.getLogger(__name__)


def detail(signal: Tensor) -> Tensor:
    """Local amount of fine detail: mean absolute Laplacian of the grey image over windows of 4 x 4, [B, 1, 15, 15]."""
    grey = signal.mean(1, keepdim=True)
    inner = grey[..., 1:-1, 1:-1]
    around = grey[..., :-2, 1:-1] + grey[..., 2:, 1:-1] + grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    return avg_pool2d((around - 4.0 * inner).abs(), 4)


def sharpen_decoder(
    network: Autoencoder,
    inverter: Inverter,
    critic: nn.Module,
    faces: FaceSet,
    embeddings_PKD: NDArray[np.float32],
    steps: int,
    seed: int,
    batch: int = 32,
    rate: float = 1e-3,
) -> Autoencoder:
    """Train the decoder on, with the identity as a hint, to keep the amount of detail and the embedding of each face.

    Absolute errors alone settle for blur where the latents do not say how a freckle or a strand lies; asking for the
    right amount of detail in every window does not. The encoder stays as it is, so latents computed before remain
    valid, and they get noise, so that the decoder forgives what diffusion leaves. Adam, one cosine cycle, averaged
    weights.
    """
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    batch = min(batch, len(faces.images_BHWC))
    network = copy.deepcopy(network).train()
    network.encoder.requires_grad_(False)
    average = copy.deepcopy(network)
    hints = itertools.chain(network.coarse_hint.parameters(), network.fine_hint.parameters())
    optimizer = torch.optim.Adam([*network.decoder.parameters(), *hints], lr=rate, betas=(0.9, 0.98))
    began = time.monotonic()
    for step in range(steps):
        warm = min(1.0, (step + 1) / 50.0)
        optimizer.param_groups[0]["lr"] = rate * warm * (0.02 + 0.49 * (1.0 + math.cos(math.pi * step / steps)))
        rows_B = np.sort(rng.integers(0, len(faces.images_BHWC), batch))
        signal = to_signal(faces.images_BHWC[rows_B])
        wanted_BD = mix_embeddings(torch.from_numpy(embeddings_PKD[rows_B // faces.images_each]), rng)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            latents = network.encode(signal)
            seen_BD = critic(signal).float()
        noisy = latents + 0.15 * torch.randn(latents.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = network.decode(noisy, make_condition(inverter, wanted_BD).detach()).float()
            found_BD = critic(decoded).float()
        cosine = cosine_similarity(found_BD, seen_BD).mean()
        texture = (detail(decoded) - detail(signal)).abs().mean()
        error = (decoded - signal).abs().mean()
        loss = error + difference_loss(decoded, signal) + texture + 0.3 * (1.0 - cosine)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        blend_weights(average, network, min(0.99, step / (step + 10.0)))
        if step % 50 == 0 or step == steps - 1:
            speed = (step + 1) * batch / (time.monotonic() - began)
            _LOG.info(
                "decoder step %d error %.4f texture %.4f cosine %.3f, %.0f images/s",
                step, error.item() / 2.0, texture.item(), cosine.item(), speed,
            )  # fmt: skip
    return average.eval()
