"""The autoencoder under the toy diffusion model: 64 x 64 RGB to 16 x 16 latents of 8 channels and back.

No normalisation layers: residual branches start at zero, which trains as well at this depth and is faster on a CPU.

Shape legend: B images, 3 colours, C = LATENT_CHANNELS, h = w = LATENT_SIZE, K = CONDITION_DIM values of an identity.
"""

import torch
from torch import Tensor, nn

from hyperface.models.toy.recognizer import EMBEDDING_DIM
from hyperface.models.toy.renderer import IDENTITY_DIM

LATENT_CHANNELS = 8
LATENT_SIZE = 16
CONDITION_DIM = EMBEDDING_DIM + IDENTITY_DIM


class Residual(nn.Module):
    """Two convolutions beside the identity, which they begin as."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type] # a convolution may have none; this one has

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.second(nn.functional.silu(self.first(nn.functional.silu(x))))
        return x + branch


# The decoder's layers from here on work at 32 pixels and more.
_FINE = 7


def _hint(width: int) -> nn.Sequential:
    last = nn.Linear(192, width)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(CONDITION_DIM, 192), nn.SiLU(), last)


class Autoencoder(nn.Module):
    """encode: [B, 3, 64, 64] in [-1, 1] -> [B, C, h, w] of mean 0 and variance 1 per channel; decode: back.

    Six numbers are squeezed into one, and freckles do not survive it. The decoder may therefore be told the identity
    [B, K] that the latents show: two hints, zero until they are trained, are added to its features at 16 and 32 pixels.

    The statistics `shift_C` and `spread_C` belong to the weights and are set once training is over (`standardise`).
    """

    shift_C: Tensor
    spread_C: Tensor

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(48, width, 3, padding=1), Residual(width), Residual(width),
            nn.SiLU(), nn.Conv2d(width, LATENT_CHANNELS, 3, padding=1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS, width, 3, padding=1), Residual(width), Residual(width), Residual(width),
            nn.SiLU(), nn.Conv2d(width, 192, 3, padding=1), nn.PixelShuffle(2), Residual(48),
            nn.SiLU(), nn.Conv2d(48, 64, 3, padding=1), nn.PixelShuffle(2),
            nn.SiLU(), nn.Conv2d(16, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 3, 3, padding=1),
        )  # fmt: skip
        self.coarse_hint = _hint(width)
        self.fine_hint = _hint(48)
        self.register_buffer("shift_C", torch.zeros(LATENT_CHANNELS))
        self.register_buffer("spread_C", torch.ones(LATENT_CHANNELS))

    def encode(self, signal: Tensor) -> Tensor:
        raw: Tensor = self.encoder(signal)
        return (raw - self.shift_C.view(1, -1, 1, 1)) / self.spread_C.view(1, -1, 1, 1)

    def decode(self, latents: Tensor, condition_BK: Tensor | None = None) -> Tensor:
        features: Tensor = self.decoder[0](latents * self.spread_C.view(1, -1, 1, 1) + self.shift_C.view(1, -1, 1, 1))
        if condition_BK is not None:
            features = features + self.coarse_hint(condition_BK)[:, :, None, None]
        features = self.decoder[1:_FINE](features)
        if condition_BK is not None:
            features = features + self.fine_hint(condition_BK)[:, :, None, None]
        signal: Tensor = self.decoder[_FINE:](features)
        return signal

    @torch.no_grad()
    def standardise(self, signal: Tensor) -> None:
        """Set the latent statistics from a sample of images."""
        raw = self.encoder(signal)
        self.shift_C.copy_(raw.mean((0, 2, 3)))
        self.spread_C.copy_(raw.std((0, 2, 3)))
