"""Alignment: cutting the crop that face recognisers are used to out of a picture, eyes, nose and mouth corners at fixed
places.

Coordinates are (x, y) in pixels, with pixel centres at whole numbers, as detectors give them. Landmarks are the eyes,
the nose and the corners of the mouth, those on the left of the picture first.

Shape legend: B pictures of H x W pixels, S rows and columns of a crop, L landmarks.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hyperface.models.detector import FaceDetector
from hyperface.models.protocols import Crop

ARCFACE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Places of the landmarks in a crop of 112 x 112 pixels on which InsightFace's recognisers are trained."""

BOX_512 = (63.55, 59.97, 383.44)
"""Left, top and side of the face crop in a picture of 512 x 512 pixels that is framed as FFHQ is, Arc2Face's included.

Our own estimate, not Arc2Face's: the similarity that takes the landmarks of a mean FFHQ face to ARCFACE_112, without
its 0.01 degrees of rotation. The mean face is facexlib's template at 512 pixels: (193.0, 239.9), (318.9, 240.2),
(256.6, 314.0), (201.3, 371.4), (313.1, 371.2).
"""


LARGEST_SCALE = 64.0
"""Largest factor by which a crop is larger or smaller than its picture."""


def similarity(source_L2: NDArray[np.float64], target_L2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation, scale and shift, without reflection, that take the source nearest to the target: a 2 x 3 matrix.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991. Paper: any
    dimension, by a singular value decomposition. Here: the plane, where points are complex numbers, rotation and scale
    one factor, and the least squares a quotient.

    Raises:
        ValueError: the source is a single point, or a point is not finite.
    """
    finite = np.isfinite(source_L2).all() and np.isfinite(target_L2).all()
    if not finite or np.ptp(source_L2, axis=0).max() == 0:
        raise ValueError(f"similarity: the landmarks must be finite and not all in one place, got {source_L2.tolist()}")
    source_L, target_L = (points @ np.array([1.0, 1.0j]) for points in (source_L2, target_L2))
    from_centre_L = source_L - source_L.mean()
    spread = float(np.vdot(from_centre_L, from_centre_L).real)
    factor = complex(np.vdot(from_centre_L, target_L) / spread)
    shift = complex(target_L.mean() - factor * source_L.mean())
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def warp(picture_HWC: NDArray[np.uint8], similarity_23: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] -> uint8 [S, S, 3]; black where the picture ends. Raises ValueError for a scale that no face has.

    Each pixel is the mean of n x n bilinear samples (Pillow's), n so large that samples are at most one pixel of the
    picture apart: nothing aliases when a large face becomes a small crop.
    """
    turn_22, shift_2 = similarity_23[:, :2], similarity_23[:, 2]
    scale = math.sqrt(np.linalg.det(turn_22))
    if not 1 / LARGEST_SCALE <= scale <= LARGEST_SCALE:
        raise ValueError(
            f"warp: the scale must be {1 / LARGEST_SCALE} to {LARGEST_SCALE}, got {scale}: no face's landmarks"
        )
    samples = max(1, math.ceil(1 / scale - 1e-9))
    back_22 = np.linalg.inv(turn_22)
    # Pillow counts from the corner of the first pixel, half a pixel before its centre.
    corner_2 = back_22 @ (-0.5 - shift_2) + 0.5
    rows = np.concatenate([back_22 / samples, corner_2[:, None]], axis=1)
    fine = Image.fromarray(picture_HWC).transform(
        (size * samples, size * samples), Image.Transform.AFFINE, rows.ravel().tolist(), Image.Resampling.BILINEAR
    )
    return np.asarray(fine.reduce(samples))


class TemplateAligner:
    """An aligner that cuts the same crop out of every picture; an `Aligner` (hyperface.models.protocols).

    For generators that frame every face alike, as FFHQ is framed. It finds no face and misses none.
    """

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self.fingerprint = _sha256(f"template {BOX_512} to {image_size}")

    def align(self, pictures_BHWC: NDArray[np.uint8]) -> list[Crop]:
        """uint8 RGB [B, H, H, 3] -> B crops [S, S, 3]."""
        left, top, side = (value * pictures_BHWC.shape[2] / 512 for value in BOX_512)
        scale = self.image_size / side
        # The box is measured from the corner of a pixel, the similarity from its centre.
        shift = [scale * (0.5 - edge) - 0.5 for edge in (left, top)]
        fixed_23 = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
        return [Crop(warp(picture, fixed_23, self.image_size), 1) for picture in pictures_BHWC]


class LandmarkAligner:
    """The largest face of each picture, turned and scaled to ArcFace's places; an `Aligner`."""

    def __init__(self, detector: FaceDetector, image_size: int) -> None:
        self.image_size = image_size
        self._detector = detector
        # InsightFace's convention for crops of another size than 112: coordinates in proportion.
        self._places_L2 = ARCFACE_112 * (image_size / 112)
        self.fingerprint = _sha256(f"landmarks {detector.fingerprint} {ARCFACE_112.tolist()} to {image_size}")

    def align(self, pictures_BHWC: NDArray[np.uint8]) -> list[Crop]:
        """uint8 RGB [B, H, W, 3] -> B crops [S, S, 3]; none where no face is found, or its landmarks are no face's."""
        return [self._crop(picture, self._detector.detect(picture)) for picture in pictures_BHWC]

    def _crop(self, picture_HWC: NDArray[np.uint8], faces: Sequence[NDArray[np.float64]]) -> Crop:
        if not faces:
            return Crop(None, 0)
        try:
            return Crop(warp(picture_HWC, similarity(faces[0], self._places_L2), self.image_size), len(faces))
        except (ValueError, np.linalg.LinAlgError):
            return Crop(None, len(faces))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
