"""The attributes of a toy face, read from its pixels so that gradients pass: yaw, light and sharpness.

Shape legend: B images, H = W = 64 pixels, A = 3 attributes, in the order of `NAMES`.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from hyperface.models.protocols import AttributeRange
from hyperface.models.toy.autoencoder import Residual
from hyperface.models.toy.renderer import IMAGE_SIZE
from hyperface.models.toy.weights import SHIPPED, read_weights

YAW_DEGREES, LIGHT_DEGREES = 14.897, 28.648
"""Angles by which one unit of the renderer's nuisances `yaw` and `light_azimuth` turns head and lamp: 0.26, 0.50
rad."""

RANGES = {
    "yaw": AttributeRange(-35.0, 35.0, tolerance=5.0),
    "light": AttributeRange(-70.0, 70.0, tolerance=10.0),
    "sharpness": AttributeRange(0.0, 60.0, tolerance=1.0, at_least=True),
}
"""`yaw`: turn of the head, `light`: azimuth of the lamp, both in degrees, positive towards the right of the picture;
`sharpness`: standard deviation of the Laplacian in grey levels; `synthesis.min_sharpness` limits its square."""

_GREY = (0.299, 0.587, 0.114)


class AngleNet(nn.Module):
    """[B, 3, 64, 64] in [-1, 1] -> [B, 2]: yaw and light in units of the renderer's nuisances. 8 million multiply-adds.

    Smooth units and no normalisation layers: its gradient is what is used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(48, 32, 3, padding=1), Residual(32),
            nn.SiLU(), nn.Conv2d(32, 64, 3, 2, 1), Residual(64),
            nn.SiLU(), nn.Conv2d(64, 96, 3, 2, 1), Residual(96), nn.SiLU(),
        )  # fmt: skip
        self.head = nn.Linear(96 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        angles: Tensor = self.head(self.body(x).flatten(1))
        return angles


def sharpness(images_BCHW: Tensor) -> Tensor:
    """Standard deviation of the Laplacian of the luma, in grey levels: [B, 3, H, W] in [-1, 1] -> [B].

    In closed form: a network trained to say it would be less exact and no smoother.
    """
    grey = (images_BCHW * torch.tensor(_GREY, device=images_BCHW.device).view(1, 3, 1, 1)).sum(1) * 127.5
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (around - 4.0 * grey[:, 1:-1, 1:-1]).flatten(1).var(1, correction=0).add(1e-6).sqrt()


class ToyAttributes:
    """Faces to yaw, light and sharpness; an `AttributeReader` (hyperface.models.protocols)."""

    image_size = IMAGE_SIZE
    ranges = RANGES

    def __init__(self, network: nn.Module, fingerprint: str) -> None:
        self.network, self.fingerprint = network.eval().requires_grad_(False), fingerprint

    def values(self, images_BCHW: Tensor) -> Tensor:
        """Images [B, 3, 64, 64] in [-1, 1], on any device -> [B, 3], with its gradient, where the network is."""
        x = images_BCHW.to(next(self.network.parameters()).device)
        angles_B2 = self.network(x) * torch.tensor([YAW_DEGREES, LIGHT_DEGREES], device=x.device)
        return torch.cat([angles_B2, sharpness(x)[:, None]], 1)


def load_attributes(folder: Path = SHIPPED, check: bool = True) -> ToyAttributes:
    """The shipped readers. Raises ValueError when `check` is on and the file is another."""
    tensors, fingerprint = read_weights("attributes", folder, check)
    network = AngleNet()
    network.load_state_dict(tensors)
    return ToyAttributes(network, fingerprint)
