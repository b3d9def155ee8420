"""Two small face recognisers for the toy world: the one that guides, and the judge that only measures.

A generator is trained against the recogniser, so cosines measured by the recogniser prove little. The judge has another
architecture, another seed and other training identities, and nothing is ever trained against it.

Shape legend: B images, H = W = 64 pixels, D = 128 embedding dimensions.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hyperface.models.pixels import to_signal
from hyperface.models.protocols import Preprocessing
from hyperface.models.toy.renderer import IMAGE_SIZE
from hyperface.models.toy.weights import SHIPPED, read_weights

EMBEDDING_DIM = 128

# Large batches fall out of the processor's cache and gain nothing.
_CHUNK = 32


class _ConvNorm(nn.Module):
    """Convolution and batch normalisation, fusable into one convolution for inference."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv: nn.Conv2d = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.conv(x))
        return normed

    def fuse(self) -> None:
        assert isinstance(self.norm, nn.BatchNorm2d)
        self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _ConvNorm(width, width)
        self.second = _ConvNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class ResidualNet(nn.Module):
    """The recogniser: 4 x 4 patches, three residual stages at 16, 8 and 4 pixels. About 52 million multiply-adds."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(4), _ConvNorm(48, 48), nn.ReLU(), _Residual(48),
            _ConvNorm(48, 112, stride=2), nn.ReLU(), _Residual(112),
            _ConvNorm(112, 224, stride=2), nn.ReLU(), _Residual(224),
        )  # fmt: skip
        self.head = nn.Linear(224 * 16, EMBEDDING_DIM)

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.head(self.body(x).flatten(1))
        return embedding


class PlainNet(nn.Module):
    """The judge: strided 5 x 5 stem and a plain stack of leaky units. About 50 million multiply-adds."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        plan = ((3, 32, 5, 2), (32, 64, 3, 2), (64, 64, 3, 1), (64, 128, 3, 2), (128, 128, 3, 1), (128, 128, 3, 1),
                (128, 192, 3, 2), (192, 192, 3, 1))  # fmt: skip
        for inputs, outputs, kernel, stride in plan:
            layers += [_ConvNorm(inputs, outputs, kernel, stride), nn.LeakyReLU(0.1)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(192 * 16, EMBEDDING_DIM)

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.head(self.body(x).flatten(1))
        return embedding


class ToyRecognizer:
    """Images to points on the unit hypersphere; a `FeatureRecognizer` (hyperface.models.protocols).

    Built by `load_recognizer` or `load_judge`. The embedding of an image does not depend on its batch (to 1e-5).
    `network` maps float32 [B, 3, 64, 64] in [-1, 1] to unnormalised [B, 128]; it is frozen, but gradients pass
    through it.
    """

    embedding_dim = EMBEDDING_DIM
    image_size = IMAGE_SIZE
    preprocessing = Preprocessing()

    def __init__(self, network: nn.Module, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.network = network.eval().requires_grad_(False)
        for module in network.modules():
            if isinstance(module, _ConvNorm):
                module.fuse()

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [B, 64, 64, 3] -> float32 [B, 128], rows of norm 1. Raises ValueError on another shape or type."""
        embeddings_BD: NDArray[np.float32] = nn.functional.normalize(
            torch.from_numpy(self.features(images_BHWC))
        ).numpy()
        return embeddings_BD

    @torch.inference_mode()
    def features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [B, 64, 64, 3] -> float32 [B, 128], of any norm. Raises ValueError on another shape or type."""
        if images_BHWC.dtype != np.uint8 or images_BHWC.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
            raise ValueError(
                f"ToyRecognizer: expected uint8 [B, {IMAGE_SIZE}, {IMAGE_SIZE}, 3], got {images_BHWC.dtype} "
                f"{list(images_BHWC.shape)}; resize and convert the images first"
            )
        features_BD = np.empty((len(images_BHWC), EMBEDDING_DIM), dtype=np.float32)
        for start in range(0, len(images_BHWC), _CHUNK):
            rows = self.network(to_signal(images_BHWC[start : start + _CHUNK]))
            features_BD[start : start + _CHUNK] = rows.numpy()
        return features_BD

    def features_of(self, images_BCHW: Tensor) -> Tensor:
        """[B, 3, 64, 64] in [-1, 1], on any device -> [B, 128], with its gradient, where the network is."""
        features_BD: Tensor = self.network(images_BCHW.to(next(self.network.parameters()).device))
        return features_BD


def load_recognizer(folder: Path = SHIPPED, check: bool = True) -> ToyRecognizer:
    """The recogniser that guides generators. Raises ValueError when `check` is on and its file is another."""
    return _load("recognizer", ResidualNet(), folder, check)


def load_judge(folder: Path = SHIPPED, check: bool = True) -> ToyRecognizer:
    """The independent judge. Raises ValueError when `check` is on and its file is another."""
    return _load("judge", PlainNet(), folder, check)


def _load(name: str, network: nn.Module, folder: Path, check: bool) -> ToyRecognizer:
    tensors, fingerprint = read_weights(name, folder, check)
    network.load_state_dict(tensors)
    return ToyRecognizer(network, fingerprint)
