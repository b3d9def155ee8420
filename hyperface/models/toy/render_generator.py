"""The exact generator of the toy world: read the traits out of an embedding, then draw them.

Inverse graphics: a small network inverts the recogniser, the renderer does the rest. It is fast, sharp and needs no
denoising, so it serves where a test or a demonstration wants identity without the cost of diffusion.

Shape legend: B images, D = 128 embedding dimensions, I = IDENTITY_DIM, H = W = 64 pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hyperface.models.toy.recognizer import EMBEDDING_DIM
from hyperface.models.toy.renderer import IDENTITY_DIM, IMAGE_SIZE, draw, render, sample_nuisance
from hyperface.models.toy.weights import SHIPPED, read_weights

STRENGTH = 0.7
"""Default range over which pose, expression, light and camera vary from seed to seed."""


class Inverter(nn.Module):
    """Embedding to identity traits: unit rows [B, D] -> [B, I] in (-1, 1)."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(EMBEDDING_DIM, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, IDENTITY_DIM),
        )

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        # Unit rows have coordinates near 1 / sqrt(D); the network wants them near 1.
        return torch.tanh(self.net(embeddings_BD * EMBEDDING_DIM**0.5))


def load_inverter(folder: Path = SHIPPED, check: bool = True) -> tuple[Inverter, str]:
    """The inverter, in evaluation mode, and the SHA-256 of its file. Raises ValueError when the file is another."""
    tensors, fingerprint = read_weights("inverter", folder, check)
    inverter = Inverter()
    inverter.load_state_dict(tensors)
    return inverter.eval().requires_grad_(False), fingerprint


class ToyRenderGenerator:
    """Embeddings and seeds to rendered faces; a `Generator` (hyperface.models.protocols).

    strength: range over which pose, expression, light and camera vary from seed to seed, 0 (never) to 1 (as the
    recogniser's training set does).
    """

    embedding_dim = EMBEDDING_DIM
    image_size = IMAGE_SIZE

    def __init__(self, strength: float = STRENGTH, folder: Path = SHIPPED, check: bool = True) -> None:
        inverter, self.fingerprint = load_inverter(folder, check)
        # Double precision, so that the last bit of a sum, which depends on the batch, never reaches a pixel.
        self._inverter = inverter.double()
        self._strength = strength

    @torch.inference_mode()
    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        """float32 unit rows [B, 128] and B seeds -> uint8 RGB [B, 64, 64, 3]. Raises ValueError on another shape."""
        check_conditions(embeddings_BD, seeds_B)
        traits_BI = self._inverter(torch.from_numpy(np.asarray(embeddings_BD, dtype=np.float64))).float().numpy()
        return render(traits_BI, sample_nuisance(seeds_B, self._strength), seeds_B)

    def decode(self, embeddings_BD: Tensor, seeds_B: Sequence[int]) -> Tensor:
        """Return the images that `generate` adds grain to and rounds, [B, 3, 64, 64] in [-1, 1], with their gradient.

        Pose, light and blur are the seed's: no embedding turns a head here.
        """
        nuisance_BN = torch.from_numpy(sample_nuisance(seeds_B, self._strength))
        return draw(self._inverter(embeddings_BD.double()).float(), nuisance_BN) * 2.0 - 1.0


def check_conditions(embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> None:
    """Raise ValueError unless the embeddings are [B, 128] and there is one seed for each."""
    if embeddings_BD.shape != (len(seeds_B), EMBEDDING_DIM):
        raise ValueError(
            f"generate: expected embeddings [B, {EMBEDDING_DIM}] and B seeds, got {list(embeddings_BD.shape)} and "
            f"{len(seeds_B)} seeds; embed with load_recognizer() and pass one seed per row"
        )
