"""The diffusion generator of the toy world: a small latent diffusion model run by diffusers' own classes.

It is built as the full-size generator is (noise from the seed, identity as the condition, a few solver steps, a
decoder), so the product's default run exercises the same path on a laptop.

Shape legend: B images, D = 128 embedding dimensions, I = IDENTITY_DIM, K = D + I condition values, C = 8 latent
channels, h = w = 16 latent rows and columns, H = W = 64 pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hyperface.models.toy.autoencoder import CONDITION_DIM, LATENT_CHANNELS, LATENT_SIZE, Autoencoder
from hyperface.models.toy.recognizer import EMBEDDING_DIM
from hyperface.models.toy.render_generator import Inverter, check_conditions, load_inverter
from hyperface.models.toy.renderer import IMAGE_SIZE
from hyperface.models.toy.weights import SHIPPED, read_weights

TRAINING_TIMESTEPS = 1000

# Batches above this size leave the processor's cache and gain nothing.
_CHUNK = 16


def build_unet() -> nn.Module:
    """The denoiser: levels of 16 and 8 pixels, the condition added to the time embedding that scales every block."""
    network: nn.Module = UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 112),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        mid_block_type=None,
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=CONDITION_DIM,
        resnet_time_scale_shift="scale_shift",
    )
    return network


def build_solver() -> DPMSolverMultistepScheduler:
    """DPM-Solver++ of second order (Lu et al., arXiv 2211.01095) on the cosine schedule, predicting velocity."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=TRAINING_TIMESTEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        lambda_min_clipped=-5.1,
    )


def make_condition(inverter: nn.Module, embeddings_BD: Tensor) -> Tensor:
    """Embedding and the traits read out of it, both scaled to unit variance: [B, K].

    The traits add no information; they hand the denoiser in a straight line what it would have to learn to untangle.
    """
    return torch.cat([embeddings_BD * EMBEDDING_DIM**0.5, inverter(embeddings_BD) * 3.0**0.5], 1)


def predict(unet: nn.Module, noisy_BChw: Tensor, timesteps_B: Tensor, condition_BK: Tensor) -> Tensor:
    """One evaluation of the denoiser: velocity [B, C, h, w]. An all-zero condition means none."""
    velocity: Tensor = unet(noisy_BChw, timesteps_B, encoder_hidden_states=None, class_labels=condition_BK).sample
    return velocity


def sample_latents(
    unet: nn.Module, condition_BK: Tensor, seeds_B: Sequence[int], steps: int, guidance: float
) -> Tensor:
    """Latents [B, C, h, w]: image i starts from the noise of seeds_B[i] alone.

    guidance: classifier-free guidance (Ho and Salimans, arXiv 2207.12598); 1 means none and halves the cost.
    """
    shape = (LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
    noises = [torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds_B]
    latents = torch.stack(noises).contiguous(memory_format=torch.channels_last)
    solver = build_solver()
    solver.set_timesteps(steps)
    for timestep in solver.timesteps:
        if torch.is_grad_enabled() and condition_BK.requires_grad:  # a step's activations are made again, not kept
            velocity = checkpoint(_guided, unet, latents, timestep, condition_BK, guidance, use_reentrant=False)
        else:
            velocity = _guided(unet, latents, timestep, condition_BK, guidance)
        latents = solver.step(velocity, timestep, latents).prev_sample
    return latents


def _guided(unet: nn.Module, latents: Tensor, timestep: Tensor, condition_BK: Tensor, guidance: float) -> Tensor:
    timesteps_B = timestep.expand(len(latents))
    velocity = predict(unet, latents, timesteps_B, condition_BK)
    if guidance == 1.0:
        return velocity
    without = predict(unet, latents, timesteps_B, torch.zeros_like(condition_BK))
    return without + guidance * (velocity - without)


class ToyDiffusionGenerator:
    """Embeddings and seeds to faces by latent diffusion; a `Generator` (hyperface.models.protocols).

    steps: solver steps, 2 (rough, for tests) to about 12; guidance: 1 (none, half the cost) to about 2.
    Raises ValueError for settings out of range.
    """

    embedding_dim = EMBEDDING_DIM
    image_size = IMAGE_SIZE

    def __init__(self, steps: int = 8, guidance: float = 1.5, folder: Path = SHIPPED, check: bool = True) -> None:
        if not 1 <= steps <= TRAINING_TIMESTEPS or guidance < 0.0:
            raise ValueError(
                f"ToyDiffusionGenerator: steps must be 1 to {TRAINING_TIMESTEPS} and guidance >= 0, got steps={steps}, "
                f"guidance={guidance}; 8 steps with guidance 1.5 are the default"
            )
        tensors, self.fingerprint = read_weights("diffusion", folder, check)
        self._unet = build_unet()
        self._unet.load_state_dict({key[5:]: value for key, value in tensors.items() if key.startswith("unet.")})
        # Drawing needs no encoder, so the file does not carry one.
        self._autoencoder = Autoencoder()
        decoding = {key[12:]: value for key, value in tensors.items() if key.startswith("autoencoder.")}
        self._autoencoder.load_state_dict(decoding, strict=False)
        self._inverter: Inverter = load_inverter(folder, check)[0]
        self._steps, self._guidance = steps, guidance
        for network in (self._unet, self._autoencoder):
            network.eval().requires_grad_(False)

    @torch.inference_mode()
    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        """float32 unit rows [B, 128] and B seeds -> uint8 RGB [B, 64, 64, 3]. Raises ValueError on another shape."""
        check_conditions(embeddings_BD, seeds_B)
        images_BHWC = np.empty((len(seeds_B), IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        for start in range(0, len(seeds_B), _CHUNK):
            part = slice(start, start + _CHUNK)
            rows_BD = torch.from_numpy(np.ascontiguousarray(embeddings_BD[part], dtype=np.float32))
            pixels = (self._signal(rows_BD, seeds_B[part]) * 127.5 + 128.0).clamp(0.0, 255.0).to(torch.uint8)
            images_BHWC[part] = pixels.permute(0, 2, 3, 1).numpy()
        return images_BHWC

    def decode(self, embeddings_BD: Tensor, seeds_B: Sequence[int]) -> Tensor:
        """Return the images that `generate` rounds to grey levels, [B, 3, 64, 64] in [-1, 1], with their gradient."""
        parts = [slice(start, start + _CHUNK) for start in range(0, len(seeds_B), _CHUNK)]
        return torch.cat([self._signal(embeddings_BD[part], seeds_B[part]) for part in parts]).clamp(-1.0, 1.0)

    def _signal(self, rows_BD: Tensor, seeds_B: Sequence[int]) -> Tensor:
        condition_BK = make_condition(self._inverter, rows_BD)
        latents = sample_latents(self._unet, condition_BK, seeds_B, self._steps, self._guidance)
        return self._autoencoder.decode(latents, condition_BK)
