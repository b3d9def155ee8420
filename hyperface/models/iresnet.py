"""The networks that are trained: aligned faces to embeddings.

IResNet (Duta et al., "Improved Residual Networks", arXiv 2004.04989) as face recognition uses it (Deng et al., ArcFace,
CVPR 2019): no pooling at the start, a batch normalisation before each convolution, PReLU, and a linear layer on the
whole last map. Parameters have the names and shapes that InsightFace's arcface_torch gives them.

Shape legend: B images, S image size in pixels, C channels, D embedding dimension.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Backbone = Literal["iresnet18", "iresnet50", "iresnet100", "small"]
LAYERS: dict[str, tuple[int, int, int, int]] = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}
STRIDE = 16
"""Pixels of an image for one of the last map: its sides must be multiples of that."""
WIDTHS = (64, 128, 256, 512)


def build(
    backbone: Backbone, image_size: int, embedding_dim: int, *, se: bool = False, dropout: float = 0.0
) -> nn.Module:
    """A network with random weights from torch's global generator: float32 [B, 3, S, S] in [-1, 1] -> [B, D].

    Raises:
        ValueError: the image size is not a multiple of the network's stride.
    """
    if image_size % STRIDE:
        raise ValueError(f"{backbone}: images must have a multiple of {STRIDE} pixels a side; they have {image_size}")
    if backbone == "small":
        return SmallNet(image_size, embedding_dim)
    return IResNet(LAYERS[backbone], image_size, embedding_dim, se=se, dropout=dropout)


class SqueezeExcitation(nn.Module):
    """Channel attention (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(squeezed))


class Block(nn.Module):
    """Norm, convolution, norm, PReLU, strided convolution, norm; the short way is a strided projection where needed."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, se: bool = False) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se = SqueezeExcitation(outputs) if se else None
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1 or inputs != outputs
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        way: Tensor = self.conv1(self.bn1(x))
        way = self.bn3(self.conv2(self.prelu(self.bn2(way))))
        if self.se is not None:
            way = self.se(way)
        short: Tensor = x if self.downsample is None else self.downsample(x)
        return short + way


class IResNet(nn.Module):
    """The field's standard: stages of 64, 128, 256 and 512 channels, each of which halves the map."""

    def __init__(
        self, layers: tuple[int, int, int, int], image_size: int, embedding_dim: int, *, se: bool, dropout: float
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(inputs, outputs, blocks, se=se)
            for inputs, outputs, blocks in zip((64, *WIDTHS), WIDTHS, layers, strict=False)
        )
        self.bn2 = nn.BatchNorm2d(512)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(512 * (image_size // STRIDE) ** 2, embedding_dim)
        self.features = _last_norm(embedding_dim)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.dropout(self.bn2(x).flatten(1))
        return _embedding(self.fc, self.features, x)


class SmallNet(nn.Module):
    """A network for 64 x 64 faces on a laptop: patches of 4 x 4 pixels, then the same blocks at a sixteenth of the
    cost."""

    def __init__(self, image_size: int, embedding_dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(48, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.PReLU(32)
        )
        self.layer1 = Block(32, 64, 2)
        self.layer2 = Block(64, 128, 2)
        self.bn2 = nn.BatchNorm2d(128)
        self.fc = nn.Linear(128 * (image_size // STRIDE) ** 2, embedding_dim)
        self.features = _last_norm(embedding_dim)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.stem(x)))
        return _embedding(self.fc, self.features, self.bn2(x).flatten(1))


def _stage(inputs: int, outputs: int, blocks: int, *, se: bool) -> nn.Sequential:
    first = Block(inputs, outputs, 2, se=se)
    return nn.Sequential(first, *(Block(outputs, outputs, 1, se=se) for _ in range(blocks - 1)))


def _last_norm(embedding_dim: int) -> nn.BatchNorm1d:
    """Return a batch normalisation whose scale stays 1: the length of a feature is the margin softmax's to give."""
    norm = nn.BatchNorm1d(embedding_dim)
    norm.weight.requires_grad_(False)
    return norm


def _embedding(fc: nn.Linear, norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """The last layer in float32, whatever the rest is in: half precision would cost the margin its digits."""
    with torch.autocast(x.device.type, enabled=False):
        embedding_BD: Tensor = norm(fc(x.float()))
    return embedding_BD


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.1)
