"""Vec2Face (Wu et al., ICLR 2025, arXiv 2409.02979): a recogniser's feature to a face in one pass of a network.

Weights are those of `jobs.train_generator`, or published ones under their own names; see `vec2face_network.py` for the
network. A feature is a direction and a length; where only directions are known they get the length of the training.

Shape legend: B images, D feature dimension, H = W pixels.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hyperface.config import StorageConfig, Vec2FaceConfig
from hyperface.errors import ConfigError, ModelError, StorageError
from hyperface.models import device as devices
from hyperface.models import own_file, vec2face_published
from hyperface.models.pixels import to_pixels
from hyperface.models.protocols import UNIT_TOLERANCE
from hyperface.models.vec2face_network import (
    SIZES,
    MaskRatio,
    Size,
    Vec2FaceNetwork,
    described,
    draw_masks,
    sized,
)
from hyperface.reading.one_line import one_line
from hyperface.storage import open_file

HEADER = "hyperface.vec2face"
"""Key of the file's header: `Made` as JSON."""


@dataclass(frozen=True)
class Made:
    """The facts that the weights of a training record of it."""

    size: Size
    embedding_dim: int
    image_size: int
    norm: float
    """Mean length of the features that the training saw."""
    recognizer: str = ""
    """Fingerprint of the recogniser whose features they were, for someone who has the file alone."""

    @property
    def scale(self) -> float:
        """Return the factor that brings features to components of about 1 for the network, as the published ones
        have."""
        return float(self.embedding_dim**0.5 / self.norm)


def to_bytes(network: nn.Module, made: Made) -> bytes:
    """A file of weights; equal ones give equal bytes."""
    return own_file.to_bytes(network, HEADER, vars(made))


class Vec2FaceGenerator:
    """Features and seeds to faces; a `FeatureGenerator` and a `Decoder` (hyperface.models.protocols)."""

    takes_norms: Literal[True] = True

    def __init__(
        self, config: Vec2FaceConfig, storage: StorageConfig | None = None, device: str | torch.device | None = None
    ) -> None:
        """Load the weights that the configuration names.

        Args:
            storage: settings by which vec2face.path is reached.
            device: None: the GPU where there is one.

        Raises:
            ModelError: the file cannot be read, has another SHA-256, is of another size, or half precision is asked of
                a CPU.
            ConfigError: vec2face.path is none that files are read from.
        """
        self._device = devices.chosen(device)
        self._dtype = devices.precision("vec2face", config.precision, self._device)
        data = _read(config, storage)
        network, self.norm, self._scale = _loaded(data, config)
        self._network = network.to(self._device)
        self._network.image_decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # not in PyTorch's types
        self._masks = MaskRatio(config.mask_min, config.mask_max, config.mask_mean, config.mask_std)
        architecture = network.architecture
        self.embedding_dim, self.image_size = architecture.embedding_dim, architecture.image_size
        masks = ", ".join(f"{value:g}" for value in vars(self._masks).values())
        self.fingerprint = (
            f"{config.sha256.lower()} vec2face {config.size}, {config.precision}, masks {masks}, norm {self.norm:g}"
        )

    def decode(self, embeddings_BD: Tensor, seeds_B: Sequence[int]) -> Tensor:
        """Rows [B, D] on the CPU, features or directions, and B seeds -> images [B, 3, H, W] in [-1, 1], on the device.

        Gradients pass to the rows. An image depends on its row and its seed alone; the seed chooses what is masked.
        """
        masks = draw_masks(seeds_B, self._network.architecture.tokens, self._masks).to(self._device)
        features_BD = self._lengthened(embeddings_BD).to(self._device) * self._scale
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            images: Tensor = self._network(features_BD, masks)[0]
        return images.float().clamp(-1.0, 1.0)

    @torch.inference_mode()
    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        """float32 rows [B, D], features or directions, and B seeds -> uint8 RGB [B, H, W, 3], all in one batch.

        A picture that is not finite is black. Raises ValueError on another shape.
        """
        if embeddings_BD.shape != (len(seeds_B), self.embedding_dim):
            raise ValueError(
                f"Vec2FaceGenerator.generate: expected embeddings [B, {self.embedding_dim}] and B seeds, got "
                f"{list(embeddings_BD.shape)} and {len(seeds_B)} seeds; embed with the recogniser of the training"
            )
        if not len(seeds_B):
            return np.empty((0, self.image_size, self.image_size, 3), np.uint8)
        images = self.decode(torch.from_numpy(np.ascontiguousarray(embeddings_BD, np.float32)), seeds_B)
        return to_pixels(images)

    def _lengthened(self, embeddings_BD: Tensor) -> Tensor:
        """Directions get the length of the training's features."""
        norms_B1 = embeddings_BD.detach().norm(dim=1, keepdim=True)
        return embeddings_BD * torch.where((norms_B1 - 1).abs() <= UNIT_TOLERANCE, self.norm / norms_B1, 1.0)


def _read(config: Vec2FaceConfig, storage: StorageConfig | None) -> bytes:
    """All bytes of the file, which are the bytes that were hashed."""
    try:
        store, name = open_file(config.path, storage)
        data = store.read(name)
    except ConfigError as error:
        raise ConfigError(f"vec2face.path: {error}") from error
    except (OSError, StorageError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{config.path}: cannot be read: {reason}; give a file as vec2face.path") from error
    found = hashlib.sha256(data).hexdigest()
    if found != config.sha256.lower():
        raise ModelError(
            f"{config.path}: expected SHA-256 {config.sha256.lower()}, found {found}; fetch the file again, or set "
            f"vec2face.sha256 if these are the weights you mean"
        )
    return data


def _loaded(data: bytes, config: Vec2FaceConfig) -> tuple[Vec2FaceNetwork, float, float]:
    """(network, length of a feature, what features are multiplied by)."""
    if vec2face_published.is_pickle(data):
        tensors = vec2face_published.read(data, config.path)
        network = _filled(tensors, config, SIZES[config.size].embedding_dim, SIZES[config.size].image_size)
        return network, config.norm, 1.0
    tensors, made = _ours(data, config.path)
    if made.size != config.size:
        fix = f"set vec2face.size={made.size}, or give other weights"
        raise ModelError(f"{config.path}: holds a network of size {made.size}, not vec2face.size={config.size}; {fix}")
    return _filled(tensors, config, made.embedding_dim, made.image_size), made.norm, made.scale


def _ours(data: bytes, path: str) -> tuple[dict[str, Tensor], Made]:
    try:
        tensors, described = own_file.from_bytes(data, HEADER)
        made = Made(**described)
        sized(made.size, made.embedding_dim, made.image_size)
        if not made.norm > 0:
            raise ValueError(f"norm must be above 0; it is {made.norm}")
    except (KeyError, TypeError, ValueError) as error:
        first = one_line(error)
        fix = "give what jobs.train_generator wrote, or published weights (.pth)"
        raise ModelError(f"{path}: is no Vec2Face of this product ({first}); {fix}") from error
    return tensors, made


def _filled(
    tensors: Mapping[str, Tensor], config: Vec2FaceConfig, embedding_dim: int, image_size: int
) -> Vec2FaceNetwork:
    """A network of the configured size with these weights, ready to use, not to train."""
    with torch.device("meta"):
        network = Vec2FaceNetwork(sized(config.size, embedding_dim, image_size))
    wanted = network.state_dict()
    _check_fit(wanted, tensors, config)
    kept = {name: tensors[name].float().contiguous() for name in wanted}
    network.load_state_dict(kept, assign=True)
    return network.eval().requires_grad_(False)


def _check_fit(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], config: Vec2FaceConfig) -> None:
    """Raise ModelError for the first weight of another shape, for weights that are missing, and for others."""
    for name, tensor in wanted.items():
        if name in tensors and tensors[name].shape != tensor.shape:
            raise ModelError(
                f"{config.path}: {vec2face_published.shown(name)} has the shape {list(tensors[name].shape)}; "
                f"vec2face.size={config.size} wants {list(tensor.shape)}; {_advice(tensors, config.size)}"
            )
    missing, others = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or others:
        said = [f"{what} {_listed(names)}" for what, names in (("lacks", missing), ("also has", others)) if names]
        advice = _advice(tensors, config.size)
        raise ModelError(f"{config.path}: is not vec2face.size={config.size}: it {'; it '.join(said)}; {advice}")


def _advice(tensors: Mapping[str, Tensor], size: str) -> str:
    width = next((t.shape[0] for name, t in tensors.items() if name == "project.weight"), None)
    fitting = [name for name, a in SIZES.items() if a.width == width and name != size]
    return f"set vec2face.size={fitting[0]}, or give other weights" if fitting else "give other weights"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(vec2face_published.shown(name) for name in names[:3]) + more


def summary_of(network: Vec2FaceNetwork) -> dict[str, Any]:
    """The architecture and the number of weights, for a record."""
    return {**described(network.architecture), "weights": sum(p.numel() for p in network.parameters())}
