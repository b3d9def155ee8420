"""A recogniser that was trained by this product: its file, and how it is used.

Shape legend: B images, S pixels a side (the network's), D embedding dimension.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hyperface.errors import ModelError, RunError
from hyperface.models import device as devices
from hyperface.models import iresnet, own_file
from hyperface.models.arcface import normalised, to_signal
from hyperface.models.protocols import Preprocessing
from hyperface.reading.one_line import one_line
from hyperface.run.names import NETWORKS, RECOGNITION
from hyperface.run.records import shaped
from hyperface.run.shapes import TrainingSummary
from hyperface.storage import Store

ARCHITECTURE = "hyperface.backbone"
"""Key of the file's header: the arguments of `iresnet.build` as JSON."""

WEIGHTS = NETWORKS["train"]
"""Name of the weights in the folder of their training (hyperface/training/folder.py)."""


def weights_file(name: str) -> str:
    return f"{RECOGNITION}/{name}/{WEIGHTS}"


def onnx_file(name: str) -> str:
    """Return the key of the file that `jobs.evaluate --export onnx` writes."""
    return f"{RECOGNITION}/{name}/backbone.onnx"


def summary_file(name: str) -> str:
    """Return the key of the summary, which is written last: a training that has it is finished."""
    return f"{RECOGNITION}/{name}/summary.json"


def to_bytes(network: nn.Module, architecture: Mapping[str, Any]) -> bytes:
    """The file; equal networks give equal bytes."""
    return own_file.to_bytes(network, ARCHITECTURE, architecture)


class TrainedRecognizer:
    """Aligned faces to points on the unit hypersphere; a `FeatureRecognizer` (hyperface.models.protocols)."""

    preprocessing = Preprocessing()

    def __init__(
        self, data: bytes, name: str, described: dict[str, Any] | None = None, device: str | None = None
    ) -> None:
        """
        Args:
            data: the bytes that `to_bytes` wrote.
            name: name of the file, for messages.
            described: description of the training.
            device: name of a torch device; None: a GPU where there is one.

        Raises:
            ModelError: truncated, or not such a file.
        """
        self.described = described or {}
        self.fingerprint = hashlib.sha256(data).hexdigest()
        self.network, architecture = _built(data, name)
        self.image_size, self.embedding_dim = int(architecture["image_size"]), int(architecture["embedding_dim"])
        self._device = devices.chosen(device)
        self.network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload] # not in PyTorch's types

    @torch.inference_mode()
    def features(self, images_BSSC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [B, S, S, 3] -> float32 [B, D], of any length. Raises ValueError on another shape or type."""
        size = self.image_size
        if images_BSSC.dtype != np.uint8 or images_BSSC.shape[1:] != (size, size, 3):
            raise ValueError(
                f"TrainedRecognizer: expected uint8 [B, {size}, {size}, 3], got {images_BSSC.dtype} "
                f"{list(images_BSSC.shape)}; align and resize the faces first"
            )
        signal = torch.from_numpy(to_signal(images_BSSC, self.preprocessing)).to(self._device)
        found: NDArray[np.float32] = self.network(signal).float().cpu().numpy()
        return found

    def features_of(self, images_BCHW: Tensor) -> Tensor:
        """[B, 3, S, S] in [-1, 1], on any device -> what `features` gives, [B, D], with its gradient."""
        features_BD: Tensor = self.network(images_BCHW.to(self._device)).float()
        return features_BD

    def embed(self, images_BSSC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [B, S, S, 3] -> float32 [B, D], rows of norm 1; NaN where a feature has no direction."""
        return normalised(self.features(images_BSSC))


def load_trained(store: Store, name: str, device: str | None = None) -> TrainedRecognizer:
    """The result of the training `name` of a run, on a device; None: a GPU where there is one.

    Raises:
        RunError: there is none, or it is not finished.
        ModelError: its file is damaged.
    """
    if not store.exists(summary_file(name)):
        unfinished = "the training is not finished; run jobs.train first, or correct train.name"
        raise RunError(f"{store.uri(summary_file(name))}: is missing: {unfinished}")
    described, uri = shaped(store, summary_file(name), TrainingSummary), store.uri(weights_file(name))
    if not store.exists(weights_file(name)):
        raise RunError(
            f"{uri}: is missing although its summary is there; restore it, or train under another train.name"
        )
    data = store.read(weights_file(name))
    if hashlib.sha256(data).hexdigest() != described["sha256"]:
        rule = f"must have the SHA-256 of its summary, {described['sha256']}"
        raise ModelError(f"{uri}: {rule}; restore it, or train again under another train.name")
    return TrainedRecognizer(data, uri, {**described}, device)


def _built(data: bytes, name: str) -> tuple[nn.Module, dict[str, Any]]:
    try:
        tensors, architecture = own_file.from_bytes(data, ARCHITECTURE)
        with torch.device("meta"):  # what is described takes no memory before the weights are found to be of it
            network = iresnet.build(**architecture)
        kept = {key: tensors[key].to(value.dtype) for key, value in network.state_dict().items() if key in tensors}
        network.load_state_dict(tensors | kept, assign=True)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        first = one_line(error)
        raise ModelError(f"{name}: is not a backbone of this product ({first})") from error
    return network.eval().requires_grad_(False), architecture
