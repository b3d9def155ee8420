"""Latent diffusion by hand: noise from seeds, steps of a solver, latents to pixels; networks and solvers of diffusers.

Whatever turns an embedding into the condition of a Stable Diffusion network shares this file; see `arc2face.py`. No
step waits for the device: times are computed and moved before the first one, noise is drawn where it is used.

Shape legend: B images, L tokens, K condition channels, C latent channels, h x w latents, H x W pixels.
"""

import copy
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DPMSolverMultistepScheduler, LCMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn

from hyperface.models.pixels import is_finite, to_pixels

Solver: TypeAlias = DPMSolverMultistepScheduler | LCMScheduler
Autoencoder: TypeAlias = AutoencoderKL | AutoencoderTiny


def start(unet: UNet2DConditionModel, seeds_B: Sequence[int], device: torch.device) -> tuple[Tensor, Any]:
    """Standard normal noise float32 [B, C, h, w], and the generators for what noise comes later, one per image.

    The first noise is drawn on the host, so that all devices begin alike; later noise on the device, without a wait.
    """
    size = unet.config.sample_size
    hosts = [torch.Generator().manual_seed(int(seed)) for seed in seeds_B]
    noise = torch.stack([torch.randn((unet.config.in_channels, size, size), generator=host) for host in hosts])
    if device.type == "cpu":
        return noise, hosts
    return noise.to(device), [torch.Generator(device).manual_seed(int(seed)) for seed in seeds_B]


def denoise(
    unet: UNet2DConditionModel,
    solver: Solver,
    steps: int,
    guidance: float,
    condition_BLK: Tensor,
    without_1LK: Tensor,
    seeds_B: Sequence[int],
) -> Tensor:
    """Latents float32 [B, C, h, w]: image i depends on condition i and seed i alone.

    The network works in the precision of the condition; latents stay in float32, so that what a step adds is not
    rounded away. guidance: classifier-free guidance (Ho and Salimans, arXiv 2207.12598), both halves in one pass; 1
    means none and halves the cost.
    """
    device, guided = condition_BLK.device, guidance != 1.0
    latents, generators = start(unet, seeds_B, device)
    solver.set_timesteps(steps)
    solver.set_begin_index(0)
    times = solver.timesteps.to(device)  # the solver's own stay on the host: it looks up its tables by them
    latents = latents * float(solver.init_noise_sigma)
    if guided:
        condition_BLK = torch.cat([without_1LK.expand_as(condition_BLK), condition_BLK])
    for index, time in enumerate(solver.timesteps):
        noisy = solver.scale_model_input(latents, time)
        noisy = torch.cat([noisy, noisy]) if guided else noisy
        noisy = noisy.to(condition_BLK.dtype)
        predicted = unet(noisy, times[index].expand(len(noisy)), condition_BLK, return_dict=False)[0].float()
        if guided:
            plain, conditioned = predicted.chunk(2)
            predicted = plain + guidance * (conditioned - plain)
        latents = cast(Tensor, solver.step(predicted, time, latents, generator=generators).prev_sample)
    return latents


def decode(autoencoder: Autoencoder, latents: Tensor, at_once: int) -> Tensor:
    """Latents [B, C, h, w] to a signal [B, 3, H, W] near -1..1, `at_once` images at a time."""
    scaled = (latents / autoencoder.config.scaling_factor).to(autoencoder.dtype)
    return torch.cat([autoencoder.decode(part, return_dict=False)[0] for part in scaled.split(at_once)])


def paint(autoencoder: Autoencoder, latents: Tensor, at_once: int) -> NDArray[np.uint8]:
    """Latents [B, C, h, w] to uint8 RGB [B, H, W, 3]; black where latents are not finite.

    Where half precision overflows in the decoder, the image is decoded again in float32.
    """
    drawable_B = is_finite(latents)
    signal = decode(autoencoder, latents, at_once)
    rows = (drawable_B & ~is_finite(signal)).nonzero()[:, 0]
    if len(rows) and signal.dtype != torch.float32:
        wide: Any = copy.deepcopy(autoencoder).float()
        signal = signal.float().index_copy(0, rows, decode(wide, latents[rows], 1))
    return to_pixels(signal, drawable_B)


def pixels_per_latent(autoencoder: Autoencoder) -> int:
    """Rows of pixels that a row of latents becomes."""
    return int(2 ** (len(autoencoder.config.block_out_channels) - 1))


def empty(network: type[nn.Module], config: dict[str, Any]) -> Any:
    """A network of diffusers' without memory for its weights, which a file brings."""
    with torch.device("meta"):
        return network.from_config(config)  # type: ignore[attr-defined] # of its ConfigMixin
