"""The problem that a packing solves: its start, its gallery, and the rows that it must keep away from.

N: identities, G: gallery rows, F: frozen rows, P: protected rows, D: embedding dimension.
"""

from dataclasses import dataclass, replace

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
"""Largest norm of a feature: float32 holds its square, and the norms of features that are drawn like it."""


@dataclass(frozen=True)
class Inputs:
    """The rows that a packing is given, all unit, float32 and of one dimension."""

    start_ND: Rows
    """Rows to start from: a seeded choice of them, or what a normal distribution is fitted to; for other starts they
    only say the dimension."""
    gallery_GD: Rows | None = None
    """Rows that references should stay near; None: no gallery term."""
    frozen_FD: Rows | None = None
    """Rows that do not move and that references keep away from, as from each other."""
    protected_PD: Rows | None = None
    """Rows that no reference comes closer to than packing.protected_cosine."""
    norms_N: Rows | None = None
    """Norms of the features that the rows of the start are the directions of; packing.start=pca draws features."""
    drawn: Sample | None = None
    """The start itself, where it was drawn before."""


@dataclass(frozen=True)
class Posed:
    """A checked problem and its start."""

    problem: Problem
    x_ND: torch.Tensor
    duplicates: int
    """Number of rows of the start that were moved off an equal one; none when there are no steps."""
    norms_N: Rows | None = None
    """Norms of the features that the start was drawn as; None where it was not, or nobody knows the gallery's."""
    sampled: dict[str, float] | None = None
    """Numbers of a start that was drawn: `start_cosine`, `candidates` and how many of them were `kept`."""


def pose(
    inputs: Inputs,
    config: PackingConfig,
    seed: int,
    device: torch.device,
    partition: Partition | None = None,
    tell: Tell | None = None,
) -> Posed:
    """Check all rows, choose or draw the start and part its duplicates.

    Args:
        partition: the ranks that draw a start together; None: this process alone.
        tell: called while a start is drawn.

    Raises:
        EmbeddingError, ConfigError: as `check`; too few rows to start from; a sample that cannot be met; a norm that
            features cannot have.
    """
    given = check(inputs, config, seed)

    def on_device(rows: Rows | None) -> torch.Tensor | None:
        return None if rows is None else torch.from_numpy(rows).to(device)

    rows = (on_device(each) for each in (given.gallery_GD, given.frozen_FD, given.protected_PD))
    problem = Problem(config, seed, *rows)
    if config.start in STARTS:
        ranks = partition or one_process(config.num_identities)
        drawn = given.drawn or _draw(given, problem, ranks, device, tell)
        known = config.start == "pca" and given.norms_N is not None
        return Posed(problem, drawn.x_ND, 0, drawn.norms_N if known else None, _told(drawn, config))
    x_ND, duplicates = start_rows(given.start_ND, config, seed), 0
    if config.steps:
        x_ND, duplicates = sphere.separate_duplicates(x_ND, seed, given.frozen_FD)
    return Posed(problem, torch.from_numpy(x_ND).to(device), duplicates)


def _draw(inputs: Inputs, problem: Problem, partition: Partition, device: torch.device, tell: Tell | None) -> Sample:
    start_ND, norms_N = inputs.start_ND, inputs.norms_N
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


def check(inputs: Inputs, config: PackingConfig, seed: int) -> Inputs:
    """Return the rows as they are worked with, after all checks that need no start.

    Raises:
        EmbeddingError: rows are not finite or not of norm 1 (to 1e-3); names them.
        ConfigError: fewer than 2 identities or dimensions, rows of another dimension, more than packing.restarts or
            packing.polish can take, a sample that no luck could find, too few rows to fit a distribution to.
    """
    start_ND = inputs.start_ND
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
    free = inputs.frozen_FD is None and inputs.protected_PD is None
    if (config.start == "algebraic" or config.restarts > 1 or config.polish) and not free:
        rule = "are for the free problem: without frozen and protected rows"
        raise ConfigError(
            f"packing.start=algebraic, packing.restarts and packing.polish {rule}; leave one or the other"
        )
    if config.start in STARTS:
        frozen = 0 if inputs.frozen_FD is None else len(inputs.frozen_FD)
        sampling.refuse_impossible(config, start_ND.shape[1], frozen, len(start_ND))
        if config.start == "pca":
            check_unit(start_ND, "packing start")
    return replace(
        inputs,
        gallery_GD=_checked(inputs.gallery_GD, "gallery", start_ND),
        frozen_FD=_checked(inputs.frozen_FD, "frozen", start_ND),
        protected_PD=_checked(inputs.protected_PD, "protected", start_ND),
    )


def start_rows(start_ND: Rows, config: PackingConfig, seed: int) -> Rows:
    """Return the rows that a packing starts from, equal ones not yet parted, unless they are drawn one by one. Of other
    starts than `gallery` the given rows only say the dimension."""
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
