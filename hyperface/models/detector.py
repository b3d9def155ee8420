"""Faces and their landmarks by SCRFD (Guo et al., ICLR 2022), as an ONNX file named by path and SHA-256.

Such a file has nine outputs: for strides of 8, 16 and 32 pixels a score, a box and five landmarks of each of two
anchors per cell. Boxes and landmarks are offsets from the cell's corner in units of the stride. InsightFace's published
files are licensed for non-commercial research only.

Shape legend: H x W pixels, S rows and columns of the network's input, N anchors of all strides, L = 5 landmarks.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hyperface.errors import ModelError
from hyperface.models.onnx_file import open_session, tried

STRIDES, ANCHORS, LANDMARKS = (8, 16, 32), 2, 5
MIN_SCORE, MAX_OVERLAP = 0.5, 0.4
"""InsightFace's: a face scores at least 0.5; of two boxes that share 0.4 of their union the better one stays."""

# Side of the input where the model leaves it open: InsightFace's default.
_OPEN_SIZE = 640


class FaceDetector:
    """Pictures to the landmarks of their faces, one picture at a time, the same ones on every call."""

    def __init__(
        self,
        path: str,
        sha256: str,
        keys: tuple[str, str] = ("synthesis.detector_path", "synthesis.detector_sha256"),
    ) -> None:
        """Load and try the model.

        Raises:
            ModelError: the file cannot be read, has another SHA-256, or is no SCRFD model with landmarks.
        """
        self._path = path
        self._session = open_session(path, sha256, keys)
        settings = f"{sha256.lower()} {MIN_SCORE} {MAX_OVERLAP}"
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()
        self._input, self._size = _input(path, self._session)
        self._centres_N2, self._strides_N1 = _anchors(self._size)
        blank = np.zeros((1, 3, self._size, self._size), np.float32)
        _gathered(path, tried(path, self._session, blank), len(self._centres_N2))

    def detect(self, picture_HWC: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Landmarks [L, 2] of every face, in pixels of the picture: the largest first, of equals the most central."""
        height, width = picture_HWC.shape[:2]
        small = Image.fromarray(picture_HWC)
        if max(height, width) > self._size:
            scale = self._size / max(height, width)
            small = small.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
        canvas = np.zeros((self._size, self._size, 3), np.uint8)
        canvas[: small.height, : small.width] = np.asarray(small)
        scores_N, boxes_N4, points_NL2 = self._predict(canvas)
        kept = _without_overlaps(scores_N, boxes_N4)
        areas = np.prod(boxes_N4[kept, 2:] - boxes_N4[kept, :2], axis=1)
        centres = (boxes_N4[kept, :2] + boxes_N4[kept, 2:]) / 2
        off_centre = np.linalg.norm(centres - np.array([small.width, small.height]) / 2, axis=1)
        order = np.lexsort((off_centre, -areas))
        return [points_NL2[kept[i]] * (width / small.width, height / small.height) for i in order]

    def _predict(self, canvas_SSC: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """(scores [N], boxes [N, 4] left top right bottom, landmarks [N, L, 2]) of anchors that score enough."""
        signal = ((canvas_SSC.astype(np.float32) - 127.5) / 128.0).transpose(2, 0, 1)[None]
        scores_N1, offsets_N4, points_N10 = _gathered(
            self._path, self._session.run(None, {self._input: np.ascontiguousarray(signal)}), len(self._centres_N2)
        )
        good = np.flatnonzero(scores_N1[:, 0] >= MIN_SCORE)
        centres, strides = self._centres_N2[good], self._strides_N1[good]
        offsets, points = offsets_N4[good] * strides, points_N10[good] * strides
        boxes = np.concatenate([centres - offsets[:, :2], centres + offsets[:, 2:]], axis=1)
        return scores_N1[good, 0], boxes, centres[:, None] + points.reshape(-1, LANDMARKS, 2)


def _input(path: str, session: Any) -> tuple[str, int]:
    """(name of the input, its side in pixels)."""
    inputs = session.get_inputs()
    shape = list(inputs[0].shape)
    one = len(inputs) == 1 and len(shape) == 4 and shape[1] == 3 and (shape[0] == 1 or not isinstance(shape[0], int))
    if not one:
        raise ModelError(f"{path}: must take one picture [1, 3, S, S]; it takes {shape}; give an SCRFD detector")
    height, width = (side if isinstance(side, int) else _OPEN_SIZE for side in shape[2:])
    if height != width or height % STRIDES[-1]:
        raise ModelError(
            f"{path}: its input must be a square of a multiple of {STRIDES[-1]} pixels; it is {width} x {height}; "
            f"export the detector with another size"
        )
    return inputs[0].name, height


def _anchors(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(where each anchor is [N, 2], its stride [N, 1]): strides ascending, cells by rows, a cell's anchors together."""
    centres, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: size // stride, : size // stride] * float(stride)
        centres.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), ANCHORS, axis=0))
        strides.append(np.full((len(centres[-1]), 1), float(stride)))
    return np.concatenate(centres), np.concatenate(strides)


def _gathered(path: str, outputs: list[NDArray[Any]], anchors: int) -> list[NDArray[np.float64]]:
    """Scores [N, 1], offsets [N, 4] and landmarks [N, 10] of all strides, whatever the outputs' order and names."""
    gathered = []
    for width in (1, 4, 2 * LANDMARKS):
        parts = [out.reshape(-1, width) for out in outputs if out.ndim and out.shape[-1] == width]
        parts.sort(key=len, reverse=True)
        gathered.append(np.concatenate(parts).astype(np.float64) if parts else np.empty((0, width)))
    if len(outputs) != 3 * len(STRIDES) or any(len(part) != anchors for part in gathered):
        shapes = ", ".join(str(list(out.shape)) for out in outputs)
        raise ModelError(
            f"{path}: must give scores, boxes and {LANDMARKS} landmarks for {ANCHORS} anchors at strides {STRIDES}; it "
            f"gives {shapes}; give an SCRFD detector with landmarks (bnkps)"
        )
    return gathered


def _without_overlaps(scores_N: NDArray[Any], boxes_N4: NDArray[Any]) -> list[int]:
    """Indices of the boxes that stay, best first: each drops the lesser ones that overlap it."""
    areas_N = np.prod(np.maximum(boxes_N4[:, 2:] - boxes_N4[:, :2], 0), axis=1)
    waiting, kept = np.argsort(-scores_N, kind="stable"), []
    while len(waiting):
        best, others = waiting[0], waiting[1:]
        kept.append(int(best))
        low = np.maximum(boxes_N4[best, :2], boxes_N4[others, :2])
        high = np.minimum(boxes_N4[best, 2:], boxes_N4[others, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = areas_N[best] + areas_N[others] - shared
        waiting = others[shared <= MAX_OVERLAP * union]
    return kept
