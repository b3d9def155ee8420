"""A discriminator between patches of made and of real images (Isola et al., PatchGAN, CVPR 2017)."""

from torch import Tensor, nn

_GROUPS = 8


class PatchDiscriminator(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] -> a number for each patch, [B, 1, H / 8, W / 8]: above 0 is real.

    Paper: a deeper network of kernels of several sizes. Here: three strided convolutions, and group normalisation in
    place of batch normalisation, because what is said of an image must not depend on its batch or rank.
    """

    def __init__(self, width: int) -> None:
        """Args: width: channels of the first layer, a multiple of 4."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.GroupNorm(_GROUPS, 2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.GroupNorm(_GROUPS, 4 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, 1, 1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        said: Tensor = self.layers(images)
        return said
