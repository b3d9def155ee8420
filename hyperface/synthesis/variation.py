"""Variation within an identity: where on the hypersphere each image of it is drawn.

d: embedding dimension.
"""

import numpy as np
from numpy.typing import NDArray


def vary(reference_d: NDArray[np.float32], seed: int, beta: float) -> NDArray[np.float32]:
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
    noise_d = np.random.Generator(np.random.Philox(seed)).standard_normal(len(reference_d))
    varied_d = reference_d.astype(np.float64) + beta * noise_d
    return (varied_d / np.linalg.norm(varied_d)).astype(np.float32)
