"""Training of the two generators: the inverter under both, and the denoiser of the diffusion generator.

Shape legend: P training identities, K renders of each, B rows of a batch, D = 128 embedding dimensions, I =
IDENTITY_DIM, C = 8 latent channels, h = w = 16.
"""

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from hyperface.models.pixels import to_signal
from hyperface.models.toy.autoencoder import LATENT_CHANNELS, LATENT_SIZE, Autoencoder
from hyperface.models.toy.diffusion_generator import (
    TRAINING_TIMESTEPS,
    build_solver,
    build_unet,
    make_condition,
    predict,
)
from hyperface.models.toy.faces import FaceSet
from hyperface.models.toy.recognizer import EMBEDDING_DIM, ToyRecognizer
from hyperface.models.toy.render_generator import Inverter
from hyperface.models.toy.train_autoencoder import blend_weights

_LOG = logging.getLogger(__name__)

_BLOCK = 64


def embed_faces(recognizer: ToyRecognizer, faces: FaceSet) -> NDArray[np.float32]:
    """Embeddings of a face set, grouped by identity: float32 [P, K, D]."""
    rows = [recognizer.embed(faces.images_BHWC[i : i + _BLOCK]) for i in range(0, len(faces.images_BHWC), _BLOCK)]
    return np.concatenate(rows).reshape(len(faces.identities_PI), faces.images_each, EMBEDDING_DIM)


@torch.inference_mode()
def encode_faces(autoencoder: Autoencoder, faces: FaceSet) -> NDArray[np.float16]:
    """Standardised latents of a face set: float16 [P * K, C, h, w]."""
    shape = (len(faces.images_BHWC), LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
    latents = np.empty(shape, dtype=np.float16)
    for start in range(0, len(latents), _BLOCK):
        with torch.autocast("cpu", torch.bfloat16):
            coded = autoencoder.encode(to_signal(faces.images_BHWC[start : start + _BLOCK]))
        latents[start : start + _BLOCK] = coded.float().numpy()
    return latents


def mix_embeddings(embeddings_BKD: Tensor, rng: np.random.Generator) -> Tensor:
    """One condition per row [B, D]: a random mixture of the identity's K embeddings, from one image to their mean.

    Users condition on single images and on means alike; weights from a sparse to an even Dirichlet cover both.
    """
    count, images_each = embeddings_BKD.shape[:2]
    draws_BK = rng.gamma(rng.choice([0.1, 1.0, 30.0], (count, 1)), size=(count, images_each)) + 1e-9
    return normalize((embeddings_BKD * torch.from_numpy(draws_BK).float()[..., None]).sum(1))


def train_inverter(
    embeddings_PKD: NDArray[np.float32], identities_PI: NDArray[np.float32], steps: int, seed: int, rate: float = 2e-3
) -> Inverter:
    """Regress the traits from embeddings: squared error, Adam, one cosine cycle, batches of 512."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    inverter = Inverter()
    optimizer = torch.optim.AdamW(inverter.parameters(), lr=rate, weight_decay=0.01)
    known_PKD, traits_PI = torch.from_numpy(embeddings_PKD), torch.from_numpy(identities_PI)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (0.01 + 0.495 * (1.0 + math.cos(math.pi * step / steps)))
        rows_B = torch.from_numpy(rng.integers(0, len(identities_PI), 512))
        loss = (inverter(mix_embeddings(known_PKD[rows_B], rng)) - traits_PI[rows_B]).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step % 500 == 0 or step == steps - 1:
            _LOG.info("inverter step %d squared error %.4f", step, loss.item())
    return inverter.eval()


@dataclass(frozen=True, slots=True)
class DiffusionTask:
    """The task of the denoiser: the renders that it learns from, and its loss.

    latents: standardised, [P * K, C, h, w]; embeddings_PKD: embeddings of the same renders. `inverter` makes the
    conditions, `autoencoder` decodes, `critic` (a recogniser network) looks at the result; all three are frozen.
    Velocity prediction (Salimans and Ho, arXiv 2202.00512); `dropout` of the conditions are zero, for guidance. An
    eighth of each batch is decoded and seen by the critic: `identity_weight` times one minus the cosine to the
    condition, faded out with the noise.
    """

    latents: NDArray[np.float16]
    embeddings_PKD: NDArray[np.float32]
    inverter: Inverter
    autoencoder: Autoencoder
    critic: nn.Module
    dropout: float = 0.1
    identity_weight: float = 0.1

    def loss(
        self, unet: nn.Module, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, velocity error and mean identity cosine of one random batch."""
        rows_B = rng.integers(0, len(self.latents), batch)
        clean = torch.from_numpy(self.latents[rows_B]).float().contiguous(memory_format=torch.channels_last)
        known_BKD = torch.from_numpy(self.embeddings_PKD[rows_B // self.embeddings_PKD.shape[1]])
        wanted_BD = mix_embeddings(known_BKD, rng)
        with torch.no_grad():
            condition_BK = make_condition(self.inverter, wanted_BD)
        seen = max(1, batch // 8)
        kept_B = torch.rand(batch, generator=generator) >= self.dropout
        kept_B[:seen] = True
        timesteps_B = torch.randint(0, TRAINING_TIMESTEPS, (batch,), generator=generator)
        share = build_solver().alphas_cumprod.float()[timesteps_B].view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = share.sqrt() * clean + (1.0 - share).sqrt() * noise
        velocity = share.sqrt() * noise - (1.0 - share).sqrt() * clean
        with torch.autocast("cpu", torch.bfloat16):
            guess = predict(unet, noisy, timesteps_B, condition_BK * kept_B[:, None]).float()
        error = (guess - velocity).square().mean()
        restored = (share.sqrt() * noisy - (1.0 - share).sqrt() * guess)[:seen]
        with torch.autocast("cpu", torch.bfloat16):
            found_BD = self.critic(self.autoencoder.decode(restored))
        cosine_B = cosine_similarity(found_BD.float(), wanted_BD[:seen])
        fade_B = share[:seen, 0, 0, 0]
        loss = error + self.identity_weight * (fade_B * (1.0 - cosine_B)).mean()
        return loss, error, (fade_B * cosine_B).sum() / fade_B.sum()


def train_diffusion(
    task: DiffusionTask,
    steps: int,
    seed: int,
    checkpoint: Callable[[int, nn.Module], None],
    batch: int = 32,
    rate: float = 8e-4,
) -> nn.Module:
    """Train the denoiser: AdamW, one cosine cycle, bfloat16 convolutions; returns the running average of the weights.

    `checkpoint(step, averaged network)` is called every 500 steps.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    batch = min(batch, len(task.latents))
    unet = build_unet()
    average = copy.deepcopy(unet)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=1e-3)
    began = time.monotonic()
    for step in range(steps):
        warm = min(1.0, (step + 1) / 200.0)
        optimizer.param_groups[0]["lr"] = rate * warm * (0.01 + 0.495 * (1.0 + math.cos(math.pi * step / steps)))
        loss, error, identity = task.loss(unet, batch, rng, generator)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        blend_weights(average, unet, min(0.998, step / (step + 10.0)))
        if step % 50 == 0 or step == steps - 1:
            speed = (step + 1) * batch / (time.monotonic() - began)
            _LOG.info(
                "diffusion step %d error %.4f cosine %.3f, %.0f images/s", step, error.item(), identity.item(), speed
            )
        if step % 500 == 499:
            checkpoint(step + 1, average)
    return average.eval()
