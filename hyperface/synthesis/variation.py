"""Variation within an identity: the points on the hypersphere at which its images are drawn.

d: embedding dimension, J: images of an identity.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hyperface.config import SynthesisConfig
from hyperface.dataset.plan import image_seed

MIXTURE = 2**32
"""Number in the place of an image's, for the seed of what concerns all images of an identity."""


@dataclass(frozen=True)
class Variation:
    """The rule by which the images of an identity depart from its reference; see the fields of `SynthesisConfig`."""

    kind: Literal["gaussian", "angle", "norm_preserving"] = "gaussian"
    beta: float = 0.01
    max_angle: float = 30.0
    """Largest angle in degrees."""
    sigmas: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()

    def vary(self, reference_d: NDArray[np.float32], seed: int, sigma: float) -> NDArray[np.float32]:
        """The embedding of one draw; `sigma` is what `image_sigmas` says of its image."""
        match self.kind:
            case "gaussian":
                return gaussian(reference_d, seed, self.beta)
            case "angle":
                return angle(reference_d, seed, self.max_angle)
            case "norm_preserving":
                return norm_preserving(reference_d, seed, sigma)

    def image_sigmas(self, run_seed: int, identity: int, images: int) -> NDArray[np.float64]:
        """Return sigma of each image of an identity, [J]; 0 where the kind knows none."""
        if self.kind != "norm_preserving":
            return np.zeros(images)
        return mixture(self.sigmas, self.shares, images, image_seed(run_seed, identity, MIXTURE, 0))


def chosen(config: SynthesisConfig) -> Variation:
    """The variation that a configuration asks for."""
    return Variation(config.variation, config.beta, config.max_angle, tuple(config.sigmas), tuple(config.shares))


def gaussian(reference_d: NDArray[np.float32], seed: int, beta: float) -> NDArray[np.float32]:
    """Algorithm 3 of HyperFace (Otroshi Shahreza and Marcel, ICLR 2025): normalise(x + beta v), v ~ N(0, I).

    The expected cosine between x and the result is about 1 / sqrt(1 + d beta^2): 0.975 for beta 0.01 and d 512.

    Args:
        reference_d: unit embedding, float32 [d].
        seed: seed of the image's draw, in [0, 2^63); the generator's own noise takes the same number, but from another
            family of random numbers.
        beta: standard deviation of the noise, at least 0.

    Returns:
        Unit embedding, float32 [d]; depends on nothing but the three arguments.
    """
    varied_d = reference_d.astype(np.float64) + beta * _random(seed).standard_normal(len(reference_d))
    return (varied_d / np.linalg.norm(varied_d)).astype(np.float32)


def angle(reference_d: NDArray[np.float32], seed: int, max_angle: float) -> NDArray[np.float32]:
    """A turn by at most an angle, after IDperturb (arXiv 2602.18831), which bounds the angle instead of the noise.

    Paper: the distribution of the angle below its bound is not known to us. Here: uniform, since points uniform in the
    cap would nearly all lie at its rim in many dimensions. The expected cosine is sin(a) / a, a the bound in radians.

    Args:
        reference_d: unit embedding, float32 [d], d at least 2.
        seed: seed of the image's draw, in [0, 2^63).
        max_angle: bound in degrees, in [0, 90).

    Returns:
        Unit embedding, float32 [d]; depends on nothing but the three arguments.
    """
    random, x_d = _random(seed), reference_d.astype(np.float64)
    x_d /= np.linalg.norm(x_d)
    turn = np.deg2rad(max_angle) * random.uniform()
    tangent_d = random.standard_normal(len(x_d))
    tangent_d -= (tangent_d @ x_d) * x_d
    tangent_d /= np.linalg.norm(tangent_d)
    turned_d: NDArray[np.float32] = (np.cos(turn) * x_d + np.sin(turn) * tangent_d).astype(np.float32)
    return turned_d


def norm_preserving(reference_d: NDArray[np.float32], seed: int, sigma: float) -> NDArray[np.float32]:
    """Noise and a return to the reference's length, after Vec2Face (Wu et al., ICLR 2025): |x| (x + e) / |x + e|.

    Paper: e ~ N(0, sigma^2 I) on features of length about 22 in 512 dimensions. Here: e is scaled by |x| / sqrt(d), so
    that sigma means the same for every length and dimension (22 / sqrt(512) = 0.97). The expected cosine is about
    1 / sqrt(1 + sigma^2).

    Args:
        reference_d: embedding of any length above 0, float32 [d].
        seed: seed of the image's draw, in [0, 2^63).
        sigma: standard deviation of the noise in units of |x| / sqrt(d), at least 0.

    Returns:
        Embedding of the same length, float32 [d]; depends on nothing but the three arguments.
    """
    x_d = reference_d.astype(np.float64)
    length = np.linalg.norm(x_d)
    noisy_d = x_d + sigma * length / np.sqrt(len(x_d)) * _random(seed).standard_normal(len(x_d))
    varied_d: NDArray[np.float32] = (noisy_d * (length / np.linalg.norm(noisy_d))).astype(np.float32)
    return varied_d


def mixture(sigmas: tuple[float, ...], shares: tuple[float, ...], images: int, seed: int) -> NDArray[np.float64]:
    """Deal sigmas to the images of an identity: as near to the shares as whole numbers go, in a random order.

    Vec2Face gives 40, 40 and 20 % of the images sigma 0.3, 0.5 and 0.7. Here any number of images is dealt, by
    systematic sampling (Madow, 1949): each sigma gets its share rounded down or up, and the seed decides which, so that
    over many identities it gets just its share, of one image each too.

    Returns:
        float64 [images].
    """
    random, sums = _random(seed), np.cumsum(shares)
    reached = np.round(sums / sums[-1] * images, 9)  # whole where it is but for rounding
    ends = np.floor(reached + random.random(dtype=np.float32))  # float32: a sum that is not rounded up to 1 more
    counts = np.diff(ends, prepend=0).astype(np.int64)
    return random.permutation(np.repeat(np.asarray(sigmas, dtype=np.float64), counts))


def _random(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))
