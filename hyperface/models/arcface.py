"""Any ArcFace-style recogniser as an ONNX file, named by path and SHA-256.

Images arrive aligned: the usual crop puts eyes, nose and mouth corners at fixed places of a 112 x 112 image. The input
is float32, NCHW, RGB and (x - 127.5) / 127.5, as in InsightFace's PyTorch recognition code, unless another
preprocessing is given. Exports that subtract and scale inside the graph (old MXNet models) would be normalised twice
and are not supported.

Shape legend: B images, C = 3 channels, H = W = S pixels (the model's), D embedding dimension (the model's).
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hyperface.errors import ModelError
from hyperface.models.onnx_file import checked_bytes, open_session, tried
from hyperface.models.protocols import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

# Images per forward pass of a model that takes any number.
_BATCH = 64


class ArcFaceRecognizer:
    """Aligned faces to points on the unit hypersphere; a `FeatureRecognizer` (hyperface.models.protocols)."""

    def __init__(
        self,
        path: str,
        sha256: str,
        providers: Sequence[str] | None = None,
        section: str = "recognizer",
        preprocessing: Preprocessing = Preprocessing(),
    ) -> None:
        """Load and try the model.

        Args:
            path: local ONNX file, weights inside.
            sha256: expected SHA-256 of the file, 64 hex digits.
            providers: execution providers of onnxruntime, preferred first; None: CUDA where onnxruntime has it, then
                CPU. On the CPU one thread is used: workers scale by processes.
            section: section of the configuration, for messages.
            preprocessing: the arithmetic that makes the network's input.

        Raises:
            ModelError: the file cannot be read, has another SHA-256, or is no ONNX model of faces to embeddings.
        """
        self.fingerprint, self.preprocessing = sha256.lower(), preprocessing
        self._path, self._keys = path, (f"{section}.path", f"{section}.sha256")
        self._session = open_session(path, sha256, self._keys, providers)
        self._input = self._session.get_inputs()[0].name
        self._fixed, self.image_size = input_shape(path, self._session)
        blank = np.zeros((self._fixed or 1, 3, self.image_size, self.image_size), np.float32)
        found = tried(path, self._session, blank)[0]
        if found.ndim != 2 or len(found) != len(blank):
            raise ModelError(
                f"{path}: the first output must be [batch, dimension]; for {len(blank)} image(s) it is "
                f"{list(found.shape)}; give a recognition model, not a detector or a classifier of patches"
            )
        self.embedding_dim = int(found.shape[1])

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [B, S, S, 3] -> float32 [B, D], rows of norm 1.

        A row that the model returns as NaN, infinite or zero has no direction and comes back as NaN: the caller counts
        it.

        Raises:
            ValueError: another shape or type.
        """
        return normalised(self.features(images_BHWC))

    def features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [B, S, S, 3] -> float32 [B, D], as the model returns them.

        Raises:
            ValueError: another shape or type.
        """
        size = self.image_size
        if images_BHWC.dtype != np.uint8 or images_BHWC.shape[1:] != (size, size, 3):
            raise ValueError(
                f"ArcFaceRecognizer: expected uint8 [B, {size}, {size}, 3], got {images_BHWC.dtype} "
                f"{list(images_BHWC.shape)}; align and resize the faces first"
            )
        return in_batches(self._run, images_BHWC, self._fixed, self.embedding_dim, self.preprocessing)

    def features_of(self, images_BCHW: "Tensor") -> "Tensor":
        """Images [B, 3, S, S] in [-1, 1], RGB -> what `features` gives, [B, D], by PyTorch, with its gradient.

        Raises:
            ModelError: the file has an operator whose gradient is not known here.
        """
        taken = self.preprocessing
        ordered = images_BCHW.flip(1) if taken.color_order == "BGR" else images_BCHW
        signal = ((ordered + 1) * 127.5 - taken.mean) / taken.std
        features_BD: Tensor = self._network(signal.to(next(self._network.buffers()).device)).float()
        return features_BD

    @cached_property
    def _network(self) -> "nn.Module":
        from hyperface.models.onnx_network import differentiable, parse  # only where images are steered

        data = checked_bytes(self._path, self.fingerprint, self._keys)
        return differentiable(parse(data, self._path), self._path, self._session, self.image_size)

    def _run(self, batch_BCHW: NDArray[np.float32]) -> Any:
        return self._session.run(None, {self._input: batch_BCHW})[0]


def normalised(rows_BD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of norm 1; NaN where a row has no direction."""
    with np.errstate(invalid="ignore", divide="ignore"):
        unit_BD: NDArray[np.float32] = rows_BD / np.linalg.norm(rows_BD, axis=1, keepdims=True)
    return unit_BD


def in_batches(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    images_BHWC: NDArray[np.uint8],
    fixed: int,
    dim: int,
    preprocessing: Preprocessing = Preprocessing(),
) -> NDArray[np.float32]:
    """Return what a model gives for any number of images, float32 [B, D].

    Args:
        run: the model.
        fixed: images that it takes at a time, of which the last may be filled up; 0: any number.
        dim: numbers that it returns for each.
    """
    rows_BD = np.empty((len(images_BHWC), dim), np.float32)
    step = fixed or _BATCH
    for start in range(0, len(images_BHWC), step):
        batch_BCHW = to_signal(images_BHWC[start : start + step], preprocessing)
        count = len(batch_BCHW)
        filling_BCHW = np.repeat(batch_BCHW[-1:], max(0, fixed - count), axis=0)
        rows_BD[start : start + count] = run(np.concatenate([batch_BCHW, filling_BCHW]))[:count]
    return rows_BD


def to_signal(images_BHWC: NDArray[np.uint8], preprocessing: Preprocessing = Preprocessing()) -> NDArray[np.float32]:
    """uint8 RGB [B, H, W, 3] -> float32 [B, 3, H, W], contiguous: what the network takes."""
    ordered_BHWC = images_BHWC[..., ::-1] if preprocessing.color_order == "BGR" else images_BHWC
    signal_BHWC = (ordered_BHWC.astype(np.float32) - preprocessing.mean) / preprocessing.std
    return np.ascontiguousarray(signal_BHWC.transpose(0, 3, 1, 2))


def input_shape(path: str, session: Any) -> tuple[int, int]:
    """(fixed batch size or 0 for any, image size in pixels).

    Raises:
        ModelError: it takes anything but one float32 [batch, 3, S, S].
    """
    inputs = session.get_inputs()
    shape = list(inputs[0].shape)
    square = len(shape) == 4 and shape[1] == 3 and isinstance(shape[2], int) and shape[2] == shape[3]
    if len(inputs) != 1 or not square:
        shown = ", ".join(f"{i.name} {i.shape}" for i in inputs)
        raise ModelError(
            f"{path}: must take one input [batch, 3, S, S] with a fixed image size S; it takes {shown}; "
            f"export the model with its image size fixed"
        )
    if inputs[0].type != "tensor(float)":
        taken = inputs[0].type.removeprefix("tensor(").removesuffix(")")
        raise ModelError(f"{path}: must take float32 images; it takes {taken}; export the model in float32")
    return (shape[0] if isinstance(shape[0], int) else 0), int(shape[2])
