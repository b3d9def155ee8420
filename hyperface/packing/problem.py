"""The problem that a packing solves: its start, its gallery, and the rows that it must keep away from.

N: identities, G: gallery rows, F: frozen rows, P: protected rows, D: embedding dimension.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hyperface import config as configuration
from hyperface.config import PackingConfig
from hyperface.errors import ConfigError, EmbeddingError
from hyperface.faces.embeddings import check_unit
from hyperface.packing import restarts, sampling, sphere, starts
from hyperface.packing.partition import Partition, one_process
from hyperface.packing.sampling import STARTS, Candidates, Sample, Tell
from hyperface.packing.solver import Problem

Rows = NDArray[np.float32]

LARGEST_NORM = 1e18
"""Of a feature: float32 holds its square, and the norms of features that are drawn like it."""


@dataclass(frozen=True)
class Posed:
    """A checked problem and where it starts."""

    problem: Problem
    x_ND: torch.Tensor
    duplicates: int
    """Rows of the start that were moved off an equal one; none when there are no steps."""
    norms_N: Rows | None = None
    """Of the features that the start was drawn as; None where it was not, or nobody knows the gallery's."""
    sampled: dict[str, float] | None = None
    """For a start that was drawn: `start_cosine`, `candidates` and how many of them were `kept`."""


def pose(
    start_ND: Rows,
    config: PackingConfig,
    seed: int,
    device: torch.device,
    gallery_GD: Rows | None = None,
    frozen_FD: Rows | None = None,
    protected_PD: Rows | None = None,
    norms_N: Rows | None = None,
    partition: Partition | None = None,
    tell: Tell | None = None,
    drawn: Sample | None = None,
) -> Posed:
    """Check all rows, choose or draw the start and part its duplicates.

    Args:
        norms_N: of the features that the rows of the start are the directions of; packing.start=pca draws features.
        partition: the ranks that draw a start together; None: this process alone.
        tell: told while a start is drawn.
        drawn: the start, where it was drawn before.

    Raises:
        EmbeddingError, ConfigError: as `check`; too few rows to start from; a sample that cannot be met; a norm that
            features cannot have.
    """
    rows = check(start_ND, config, seed, gallery_GD, frozen_FD, protected_PD)
    on_device = {name: None if r is None else torch.from_numpy(r).to(device) for name, r in rows.items()}
    problem = Problem(config, seed, on_device["gallery"], on_device["frozen"], on_device["protected"])
    if config.start in STARTS:
        drawn = drawn or _draw(
            start_ND, norms_N, problem, partition or one_process(config.num_identities), device, tell
        )
        known = config.start == "pca" and norms_N is not None
        return Posed(problem, drawn.x_ND, 0, drawn.norms_N if known else None, _told(drawn, config))
    x_ND, duplicates = start_rows(start_ND, config, seed), 0
    if config.steps:
        x_ND, duplicates = sphere.separate_duplicates(x_ND, seed, rows["frozen"])
    return Posed(problem, torch.from_numpy(x_ND).to(device), duplicates)


def _draw(
    start_ND: Rows,
    norms_N: Rows | None,
    problem: Problem,
    partition: Partition,
    device: torch.device,
    tell: Tell | None,
) -> Sample:
    config, dim, normal = problem.config, start_ND.shape[1], None
    if config.start == "pca":
        _check_norms(norms_N)
        features_ND = start_ND if norms_N is None else start_ND * norms_N[:, None]
        normal = sampling.shared(sampling.fit(features_ND) if partition.rank == 0 else None, dim, partition, device)
    candidates = Candidates(dim, (problem.seed, config.first_identity), normal)
    return sampling.sample(candidates, config, partition, device, problem.frozen_FD, problem.protected_PD, tell)


def _check_norms(norms_N: Rows | None) -> None:
    if norms_N is None:
        return
    bad_n = np.flatnonzero(~((norms_N > 0) & (norms_N <= LARGEST_NORM)))  # NaN is bad too
    if len(bad_n):
        shown = ", ".join(f"row {i} ({norms_N[i]:.4g})" for i in bad_n[:5])
        rule = f"norms of features must be above 0 and at most {LARGEST_NORM:g}; {len(bad_n)} are not: {shown}"
        raise EmbeddingError(f"packing start: {rule}; embed the faces again")


def _told(drawn: Sample, config: PackingConfig) -> dict[str, float]:
    return {"start_cosine": config.start_cosine, "candidates": drawn.candidates, "kept": len(drawn.x_ND)}


def check(
    start_ND: Rows,
    config: PackingConfig,
    seed: int,
    gallery_GD: Rows | None = None,
    frozen_FD: Rows | None = None,
    protected_PD: Rows | None = None,
) -> dict[str, Rows | None]:
    """`gallery`, `frozen` and `protected` as they are worked with; what can be said before a start is known is said.

    Raises:
        EmbeddingError: rows are not finite or not of norm 1 (to 1e-3); names them.
        ConfigError: fewer than 2 identities or dimensions, rows of another dimension, more than packing.restarts or
            packing.polish can take, a sample that no luck could find, too few rows to fit a distribution to.
    """
    configuration.check_packing(config)
    if seed < 0:
        raise ConfigError(f"the seed must be at least 0; it is {seed}")
    if start_ND.ndim != 2 or start_ND.shape[1] < 2:
        raise ConfigError(f"packing: embeddings must be rows of at least 2 numbers; their shape is {start_ND.shape}")
    if config.restarts > 1:
        restarts.refuse_large(config.num_identities)
    if config.polish:
        from hyperface.packing import polish  # scipy, for a second, which few packings need

        polish.refuse_large(config.num_identities, start_ND.shape[1])
    if (config.start == "algebraic" or config.restarts > 1 or config.polish) and not (
        frozen_FD is None and protected_PD is None
    ):
        rule = "are for the free problem: without frozen and protected rows"
        raise ConfigError(
            f"packing.start=algebraic, packing.restarts and packing.polish {rule}; leave one or the other"
        )
    given = {"gallery": gallery_GD, "frozen": frozen_FD, "protected": protected_PD}
    if config.start in STARTS:
        frozen = 0 if frozen_FD is None else len(frozen_FD)
        sampling.refuse_impossible(config, start_ND.shape[1], frozen, len(start_ND))
        if config.start == "pca":
            check_unit(start_ND, "packing start")
    return {name: _checked(rows, name, start_ND) for name, rows in given.items()}


def start_rows(start_ND: Rows, config: PackingConfig, seed: int) -> Rows:
    """The rows that a packing starts from, equal ones not yet parted, unless they are drawn one by one. Of other starts
    than `gallery` the given rows only say the dimension."""
    n, dim = config.num_identities, start_ND.shape[1]
    match config.start:
        case "random":
            return sphere.random_points(n, dim, seed + config.first_identity)
        case "algebraic":
            return starts.algebraic(n, dim, seed)
        case _:
            return sphere.choose_start(sphere.unit_rows(start_ND, "packing start"), n, seed, config.first_identity)


def _checked(rows: Rows | None, name: str, start_ND: Rows) -> Rows | None:
    if rows is None:
        return None
    if rows.ndim != 2 or rows.shape[1] != start_ND.shape[1] or not len(rows):
        shapes = f"{name} {rows.shape}, start {start_ND.shape}"
        raise ConfigError(f"packing: {name} and start must be rows of the same dimension; give {shapes} one model")
    return sphere.unit_rows(rows, f"packing {name}")
