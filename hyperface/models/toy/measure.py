"""Measurement of the toy models: the numbers of the model card.

Shape legend: B images, P identities, K renders of each, D = 128 embedding dimensions, N pairs, H = W = 64 pixels.
"""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyperface.models.protocols import Generator, Recognizer
from hyperface.models.toy.attributes import load_attributes
from hyperface.models.toy.diffusion_generator import ToyDiffusionGenerator
from hyperface.models.toy.faces import HELD_OUT_SEED, render_faces
from hyperface.models.toy.recognizer import load_judge, load_recognizer
from hyperface.models.toy.render_generator import ToyRenderGenerator
from hyperface.models.toy.train_attributes import HELD_OUT_ANGLES_SEED, angle_errors, render_angles
from hyperface.models.toy.weights import SHIPPED

_RENDERS_EACH = 6


def measure(folder: Path = SHIPPED, identities: int = 400, check: bool = True) -> dict[str, float]:
    """Measure the models in `folder` on held-out identities.

    Returns numbers by name. Accuracies, cosines and ratios are fractions; `*_images_per_second` is this machine's speed
    with torch's current number of threads. `render_generator_*` and `diffusion_generator_*` are conditioned on the
    mean of five embeddings, `*_single_*` on the embedding of one image; every judge cosine compares with renders of
    the same identity. `attributes_*_error` is in degrees.
    """
    numbers: dict[str, float] = {}
    began = time.perf_counter()
    faces = render_faces(identities, _RENDERS_EACH, HELD_OUT_SEED)
    numbers["renderer_images_per_second"] = len(faces.images_BHWC) / (time.perf_counter() - began)
    recognizer, judge = load_recognizer(folder, check), load_judge(folder, check)
    grouped = {}
    for name, network in (("recognizer", recognizer), ("judge", judge)):
        began = time.perf_counter()
        embeddings_BD = network.embed(faces.images_BHWC)
        numbers[f"{name}_images_per_second"] = len(embeddings_BD) / (time.perf_counter() - began)
        grouped[name] = embeddings_BD.reshape(identities, _RENDERS_EACH, -1)
        numbers |= {f"{name}_{key}": value for key, value in describe_recognizer(grouped[name]).items()}
    sharpness = float(laplacian_variance(faces.images_BHWC).mean())
    generators: dict[str, Generator] = {
        "render_generator": ToyRenderGenerator(folder=folder, check=check),
        "diffusion_generator": ToyDiffusionGenerator(folder=folder, check=check),
    }
    for name, generator in generators.items():
        found = describe_generator(generator, recognizer, judge, grouped["recognizer"], grouped["judge"], sharpness)
        numbers |= {f"{name}_{key}": value for key, value in found.items()}
    angles = angle_errors(load_attributes(folder, check).network, *render_angles(2 * identities, HELD_OUT_ANGLES_SEED))
    return numbers | {f"attributes_{key}": value for key, value in angles.items()}


def describe_recognizer(embeddings_PKD: NDArray[np.float32]) -> dict[str, float]:
    """Ten-fold verification accuracy, cosines within and between identities, effective number of dimensions."""
    identities, images_each = embeddings_PKD.shape[:2]
    rng = np.random.default_rng(0)
    pairs = 10 * identities
    people_N, first_N = rng.integers(0, identities, pairs), rng.integers(0, images_each, pairs)
    second_N = (first_N + rng.integers(1, images_each, pairs)) % images_each
    others_N = (people_N + rng.integers(1, identities, pairs)) % identities
    same_N = (embeddings_PKD[people_N, first_N] * embeddings_PKD[people_N, second_N]).sum(1)
    different_N = (embeddings_PKD[people_N, first_N] * embeddings_PKD[others_N, second_N]).sum(1)
    return {
        "accuracy": verification_accuracy(same_N, different_N),
        "same_cosine": float(same_N.mean()),
        "same_cosine_p05": float(np.quantile(same_N, 0.05)),
        "different_cosine_p95": float(np.quantile(different_N, 0.95)),
        "effective_dimensions": participation_ratio(embeddings_PKD.mean(1)),
    }


def verification_accuracy(same_N: NDArray[np.float32], different_N: NDArray[np.float32], folds: int = 10) -> float:
    """Mean accuracy over the folds, the threshold of each chosen on the others (Huang et al., LFW, 2007).

    same_N and different_N: cosines of as many genuine as impostor pairs; fold k takes the k-th tenth of each.
    """
    thresholds_T = np.arange(-1.0, 1.0, 0.005)
    parts = np.arange(len(same_N)) * folds // len(same_N)
    accepted_NT = same_N[:, None] > thresholds_T
    refused_NT = different_N[:, None] <= thresholds_T
    right_NT = (accepted_NT.astype(np.float64) + refused_NT) / 2.0
    scores = []
    for fold in range(folds):
        chosen = right_NT[parts != fold].mean(0).argmax()
        scores.append(right_NT[parts == fold, chosen].mean())
    return float(np.mean(scores))


def participation_ratio(points_PD: NDArray[np.float32]) -> float:
    """Effective number of dimensions: (sum of eigenvalues)^2 / sum of squares, of the covariance of the points."""
    values = np.linalg.eigvalsh(np.cov(points_PD.T.astype(np.float64)))
    return float(values.sum() ** 2 / (values**2).sum())


def laplacian_variance(images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Sharpness of each image: variance of the four-neighbour Laplacian of its grey values, [B]."""
    grey = images_BHWC.astype(np.float32).mean(3)
    inner = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    variance_B: NDArray[np.float32] = (around - 4.0 * inner).var(axis=(1, 2))
    return variance_B


def describe_generator(
    generator: Generator,
    recognizer: Recognizer,
    judge: Recognizer,
    seen_PKD: NDArray[np.float32],
    judged_PKD: NDArray[np.float32],
    render_sharpness: float,
) -> dict[str, float]:
    """Speed, identity and sharpness of a generator on identities given by K renders each.

    seen_PKD and judged_PKD: embeddings of the same renders by recogniser and judge; conditions come from the first five
    renders, the judge compares with all of them. render_sharpness: mean Laplacian variance of renders.
    """
    conditions = {"": seen_PKD[:, :5].mean(1), "single_": seen_PKD[:, 0]}
    numbers: dict[str, float] = {}
    for prefix, directions_PD in conditions.items():
        rows_PD = directions_PD / np.linalg.norm(directions_PD, axis=1, keepdims=True)
        seeds = [10_000 + i for i in range(len(rows_PD))]
        began = time.perf_counter()
        images_BHWC = generator.generate(rows_PD, seeds)
        seconds = time.perf_counter() - began
        cosine_P = (recognizer.embed(images_BHWC) * rows_PD).sum(1)
        judged_PK = np.einsum("pd,pkd->pk", judge.embed(images_BHWC), judged_PKD)
        numbers[f"{prefix}cosine"] = float(cosine_P.mean())
        numbers[f"{prefix}cosine_p05"] = float(np.quantile(cosine_P, 0.05))
        numbers[f"{prefix}judge_cosine"] = float(judged_PK.mean())
        if not prefix:
            numbers["images_per_second"] = len(rows_PD) / seconds
            numbers["sharpness_ratio"] = float(laplacian_variance(images_BHWC).mean()) / render_sharpness
    return numbers
