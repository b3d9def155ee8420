"""The autoencoder under the toy diffusion model: 64 x 64 RGB to 16 x 16 latents of 8 channels and back.

No normalisation layers: residual branches start at zero, which trains as well at this depth and is faster on a CPU.

Shape legend: B images, 3 colours, C = LATENT_CHANNELS, h = w = LATENT_SIZE.
"""

import torch
from torch import Tensor, nn

LATENT_CHANNELS = 8
LATENT_SIZE = 16


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.second(nn.functional.silu(self.first(nn.functional.silu(x))))
        return x + branch


class Autoencoder(nn.Module):
    """encode: [B, 3, 64, 64] in [-1, 1] -> [B, C, h, w] of mean 0 and variance 1 per channel; decode: back.

    The statistics `shift_C` and `spread_C` belong to the weights and are set once training is over (`standardise`).
    """

    shift_C: Tensor
    spread_C: Tensor

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(48, width, 3, padding=1), _Residual(width), _Residual(width),
            nn.SiLU(), nn.Conv2d(width, LATENT_CHANNELS, 3, padding=1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS, width, 3, padding=1), _Residual(width), _Residual(width), _Residual(width),
            nn.SiLU(), nn.Conv2d(width, 192, 3, padding=1), nn.PixelShuffle(2), _Residual(48),
            nn.SiLU(), nn.Conv2d(48, 64, 3, padding=1), nn.PixelShuffle(2),
            nn.SiLU(), nn.Conv2d(16, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 3, 3, padding=1),
        )  # fmt: skip
        self.register_buffer("shift_C", torch.zeros(LATENT_CHANNELS))
        self.register_buffer("spread_C", torch.ones(LATENT_CHANNELS))

    def encode(self, signal: Tensor) -> Tensor:
        raw: Tensor = self.encoder(signal)
        return (raw - self.shift_C.view(1, -1, 1, 1)) / self.spread_C.view(1, -1, 1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        signal: Tensor = self.decoder(latents * self.spread_C.view(1, -1, 1, 1) + self.shift_C.view(1, -1, 1, 1))
        return signal

    @torch.no_grad()
    def standardise(self, signal: Tensor) -> None:
        """Set the latent statistics from a sample of images."""
        raw = self.encoder(signal)
        self.shift_C.copy_(raw.mean((0, 2, 3)))
        self.spread_C.copy_(raw.std((0, 2, 3)))
