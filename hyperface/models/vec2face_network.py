"""The network of Vec2Face (Wu et al., ICLR 2025, arXiv 2409.02979): a feature-masked autoencoder and an image decoder.

A feature becomes one token, that token a grid of tokens, of which some are masked: hidden from the encoder, or shown
and replaced afterwards, by the feature's own token. A ViT encoder, a ViT decoder and a convolutional decoder turn what
is left into an image. What is masked is the only chance in it.

Shape legend: B images, D feature dimension, N = grid * grid tokens, K tokens that the encoder sees, W width, Z latent
channels, H = W pixels.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

Size = Literal["small", "base", "large", "huge"]

_EPS = 1e-6
_RATIO = 4
"""Width of a block's hidden layer to that of its tokens."""


@dataclass(frozen=True)
class Architecture:
    """The sizes of a network."""

    embedding_dim: int = 512
    image_size: int = 112
    width: int = 768
    depth: int = 12
    """Blocks of the encoder."""
    heads: int = 12
    decoder_depth: int = 8
    decoder_heads: int = 16
    latent: int = 256
    """Channels that the image decoder takes."""
    channels: tuple[int, ...] = (512, 256, 256, 128, 128)
    """Channels of the image decoder's levels, coarsest first, each of twice the pixels of the one before."""
    residuals: int = 2
    """Residual blocks of each level."""
    groups: int = 32
    """Groups of the group normalisations."""
    position_spread: float = 0.02
    """Standard deviation of the positions' first values."""

    @property
    def grid(self) -> int:
        """Tokens a side."""
        return self.image_size // self.stride

    @property
    def stride(self) -> int:
        """Pixels of an image for one token, a side."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def tokens(self) -> int:
        return self.grid * self.grid


SIZES: dict[Size, Architecture] = {
    "small": Architecture(
        embedding_dim=128, image_size=64, width=256, depth=3, heads=4, decoder_depth=3, decoder_heads=4,
        latent=128, channels=(128, 96, 48, 32, 16), residuals=1, groups=8, position_spread=1.0,
    ),
    "base": Architecture(),
    "large": Architecture(width=1024, depth=24, heads=16),
    "huge": Architecture(width=1280, depth=32, heads=16),
}  # fmt: skip
"""Networks as published, and `small` for the 64 x 64 images of the toy world.

Paper: positions begin near 0, at 0.02. Here: in `small` at 1, because its trainings are short and tokens that are alike
take long to part (after 100 steps a loss of 1.85 in place of 2.12)."""


def sized(size: Size, embedding_dim: int, image_size: int) -> Architecture:
    """A size for features and images of other dimensions.

    Raises:
        ValueError: the image is no multiple of a token.
    """
    made = replace(SIZES[size], embedding_dim=embedding_dim, image_size=image_size)
    if image_size % made.stride or not image_size:
        raise ValueError(f"{size}: images must have a multiple of {made.stride} pixels a side; they have {image_size}")
    return made


@dataclass(frozen=True)
class MaskRatio:
    """A normal distribution of the share of masked tokens, cut at both ends; 0 <= low < high <= 1, spread > 0."""

    low: float
    """Share of the tokens that is always hidden from the encoder."""
    high: float
    mean: float
    spread: float

    def at(self, quantile: float) -> float:
        """The share below which so many draws lie, by the inverse of the distribution."""
        ends = torch.tensor([self.low, self.high], dtype=torch.float64)
        below, above = torch.special.ndtr((ends - self.mean) / self.spread).tolist()
        level = torch.tensor(below + quantile * (above - below), dtype=torch.float64)
        share = float(torch.special.ndtri(level)) * self.spread + self.mean
        return min(max(share, self.low), self.high)


@dataclass(frozen=True)
class Masks:
    """The tokens of a batch that are hidden."""

    kept_BK: Tensor
    """int64, ascending: the tokens that the encoder sees."""
    masked_BN: Tensor
    """bool: the tokens in whose place the decoder gets the feature's; all that the encoder does not see, and more."""

    def to(self, device: torch.device) -> "Masks":
        return Masks(self.kept_BK.to(device), self.masked_BN.to(device))


def draw_masks(seeds_B: Sequence[int], tokens: int, ratio: MaskRatio) -> Masks:
    """The masks of a batch; those of an image depend on its seed alone.

    Paper: one share for a batch, a random order for each image. Here: a share for each image, because an image must
    not depend on its batch. The share that the encoder does not see is fixed, so that all images have as many tokens.
    """
    hidden = math.ceil(tokens * ratio.low)
    kept, masked = [], []
    for seed in seeds_B:
        generator = torch.Generator().manual_seed(int(seed))
        quantile = float(torch.rand((), generator=generator, dtype=torch.float64))
        order_N = torch.randperm(tokens, generator=generator)
        masked_N = torch.zeros(tokens, dtype=torch.bool)
        masked_N[order_N[: math.ceil(tokens * ratio.at(quantile))]] = True
        masked.append(masked_N)
        kept.append(order_N[hidden:].sort().values)
    if not kept:
        return Masks(torch.zeros(0, tokens - hidden, dtype=torch.int64), torch.zeros(0, tokens, dtype=torch.bool))
    return Masks(torch.stack(kept), torch.stack(masked))


class Block(nn.Module):
    """A transformer block: attention, then two layers, each after a normalisation and added to what came in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.fc1 = nn.Linear(width, _RATIO * width)
        self.fc2 = nn.Linear(_RATIO * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BMW: Tensor) -> Tensor:
        x_BMW = x_BMW + self.drop(self.out(self._attended(self.norm1(x_BMW))))
        hidden = self.drop(nn.functional.gelu(self.fc1(self.norm2(x_BMW))))
        added: Tensor = x_BMW + self.drop(self.fc2(hidden))
        return added

    def _attended(self, x_BMW: Tensor) -> Tensor:
        batch, count, width = x_BMW.shape
        q, k, v = self.qkv(x_BMW).reshape(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        found: Tensor = scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return found.transpose(1, 2).reshape(batch, count, width)


class Residual(nn.Module):
    """Two convolutions, each after group normalisation and SiLU; the short way is a projection where needed."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, _EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, outputs, _EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.short = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        way = self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))
        added: Tensor = self.short(x) + way
        return added


class Level(nn.Module):
    """Residual blocks at one size; then, but for the last level, twice the pixels (nearest) and a convolution."""

    def __init__(self, inputs: int, outputs: int, residuals: int, groups: int, *, last: bool) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * residuals
        self.residuals = nn.Sequential(*(Residual(a, b, groups) for a, b in itertools.pairwise(widths)))
        self.grow = None if last else nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.residuals(x)
        if self.grow is None:
            return x
        grown: Tensor = self.grow(interpolate(x, scale_factor=2.0, mode="nearest"))
        return grown


class ImageDecoder(nn.Module):
    """Latents [B, Z, grid, grid] -> images [B, 3, H, H]: the decoder of VQGAN (Esser et al., CVPR 2021) without
    attention."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        channels, groups = architecture.channels, architecture.groups
        self.entry = nn.Conv2d(architecture.latent, channels[0], 3, padding=1)
        self.middle = nn.Sequential(*(Residual(channels[0], channels[0], groups) for _ in range(2)))
        wide = (channels[0], *channels)
        self.levels = nn.Sequential(
            *(
                Level(before, after, architecture.residuals, groups, last=number == len(channels) - 1)
                for number, (before, after) in enumerate(zip(wide, channels, strict=False))
            )
        )
        self.exit_norm = nn.GroupNorm(groups, channels[-1], _EPS)
        self.exit = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.levels(self.middle(self.entry(latents)))
        images: Tensor = self.exit(silu(self.exit_norm(x)))
        return images


class Vec2FaceNetwork(nn.Module):
    """Features [B, D] and masks -> images [B, 3, H, H], in [-1, 1] where it was trained to."""

    def __init__(self, architecture: Architecture, dropout: float = 0.1) -> None:
        """Random weights from torch's global generator: Xavier's for the linear layers, as the paper's."""
        super().__init__()
        a, width = architecture, architecture.width
        self.architecture = architecture
        self.project = nn.Linear(a.embedding_dim, width)
        self.expand = nn.Linear(1, a.tokens)
        self.position = nn.Parameter(torch.empty(1 + a.tokens, width))
        self.entry_norm = nn.LayerNorm(width, eps=_EPS)
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Sequential(*(Block(width, a.heads, dropout) for _ in range(a.depth)))
        self.encoder_norm = nn.LayerNorm(width, eps=_EPS)
        self.bridge = nn.Linear(width, width)
        self.decoder_position = nn.Parameter(torch.empty(1 + a.tokens, width))
        self.decoder = nn.Sequential(*(Block(width, a.decoder_heads, dropout) for _ in range(a.decoder_depth)))
        self.decoder_norm = nn.LayerNorm(width, eps=_EPS)
        self.squeeze = nn.Linear(width, a.latent)
        self.image_decoder = ImageDecoder(a)
        _initialise(self)

    def forward(self, features_BD: Tensor, masks: Masks) -> tuple[Tensor, Tensor, Tensor]:
        """(images [B, 3, H, H], the decoder's tokens [B, 1 + N, W], the unmasked ones that they are to be)."""
        feature_B1W = self.project(features_BD)[:, None]
        # A linear layer of one number: each token of the grid is the feature's times a number, plus a number.
        grid_BNW = feature_B1W * self.expand.weight + self.expand.bias[:, None]
        wanted_BMW = torch.cat([feature_B1W, grid_BNW], 1).detach()
        decoded_BMW = self._decode(self._encode(feature_B1W, grid_BNW, masks), masks)
        grid = self.architecture.grid
        latents_BNZ = self.squeeze(decoded_BMW[:, 1:])
        latents = latents_BNZ.transpose(1, 2).unflatten(2, (grid, grid))
        return self.image_decoder(latents), decoded_BMW, wanted_BMW

    def _encode(self, feature_B1W: Tensor, grid_BNW: Tensor, masks: Masks) -> Tensor:
        """The feature's token and the K that are not hidden, [B, 1 + K, W]."""
        shown_BNW = torch.where(masks.masked_BN[..., None], feature_B1W, grid_BNW)
        x_BMW = self.drop(self.entry_norm(torch.cat([feature_B1W, shown_BNW], 1) + self.position))
        seen_BKW = _rows(x_BMW, _places(masks))
        encoded: Tensor = self.encoder_norm(self.encoder(seen_BKW))
        return encoded

    def _decode(self, encoded_BKW: Tensor, masks: Masks) -> Tensor:
        """[B, 1 + N, W]: the feature's token stands where tokens are masked."""
        x_BKW = self.bridge(encoded_BKW)
        feature_B1W, count = x_BKW[:, :1], 1 + self.architecture.tokens
        places = _places(masks)[..., None].expand(-1, -1, x_BKW.shape[2])
        x_BMW = feature_B1W.expand(-1, count, -1).scatter(1, places, x_BKW)
        shown_BM = nn.functional.pad(~masks.masked_BN, (1, 0), value=True)
        x_BMW = torch.where(shown_BM[..., None], x_BMW, feature_B1W) + self.decoder_position
        decoded: Tensor = self.decoder_norm(self.decoder(x_BMW))
        return decoded


def _places(masks: Masks) -> Tensor:
    """[B, 1 + K]: of the tokens that the encoder sees in the sequence that the feature's token begins."""
    return nn.functional.pad(masks.kept_BK + 1, (1, 0))


def _rows(x_BMW: Tensor, places_BK: Tensor) -> Tensor:
    return x_BMW.gather(1, places_BK[..., None].expand(-1, -1, x_BMW.shape[2]))


def _initialise(network: Vec2FaceNetwork) -> None:
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for position in (network.position, network.decoder_position):
        nn.init.normal_(position, std=network.architecture.position_spread)


def described(architecture: Architecture) -> dict[str, Any]:
    """The architecture as JSON has it."""
    return {**vars(architecture), "channels": list(architecture.channels)}
