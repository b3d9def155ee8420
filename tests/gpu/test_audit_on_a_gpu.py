"""The audit on a GPU counts what it counts on a CPU. Run by `pytest tests/gpu`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audited_run import audited_run, auditor, put_faces
from numpy.typing import NDArray

from hyperface.audit import pairs
from hyperface.audit.auditor import audit_here
from hyperface.audit.distribution import Tally
from hyperface.audit.machine import CPU, Machine
from hyperface.audit.separation import centres, greedy_count
from hyperface.run.names import AUDIT

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = Machine("cuda")
COUNT, DIM = pairs.TILE_ON_A_GPU + 700, 24


def unit(count: int, seed: int = 0) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).standard_normal((count, DIM))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def same(found: Tally, wanted: Tally) -> None:
    """Equal but for pairs at the edge of a bin."""
    assert found.count == wanted.count
    assert np.abs(np.cumsum(found.fine_F - wanted.fine_F)).sum() <= 1e-3 * wanted.count
    assert found.total == pytest.approx(wanted.total, abs=1e-6 * wanted.count)
    assert (found.least, found.most) == pytest.approx((wanted.least, wanted.most), abs=1e-5)


def test_all_pairs_are_counted_as_on_a_cpu() -> None:
    x, labels = unit(COUNT), np.sort(np.random.default_rng(1).integers(0, 900, COUNT))
    wanted, found = pairs.all_pairs(x, labels), pairs.all_pairs(x, labels, CUDA)
    same(found.between, wanted.between)
    same(found.within, wanted.within)
    np.testing.assert_allclose(found.nearest.cosines_N, wanted.nearest.cosines_N, atol=1e-5)
    for row in (0, 5, pairs.TILE_ON_A_GPU - 1, pairs.TILE_ON_A_GPU, COUNT - 1):
        other = pairs.partner(found.nearest, row, x, x, labels)
        assert x[other] @ x[row] == pytest.approx(wanted.nearest.cosines_N[row], abs=1e-5)
        assert labels[other] != labels[row]


def test_two_sets_are_compared_as_on_a_cpu() -> None:
    x, others = unit(COUNT), unit(1500, seed=2)
    wanted, found = pairs.cross_pairs(x, others), pairs.cross_pairs(x, others, CUDA)
    same(found.between, wanted.between)
    np.testing.assert_allclose(found.nearest.cosines_N, wanted.nearest.cosines_N, atol=1e-5)


def test_as_many_identities_count_as_on_a_cpu() -> None:
    x = unit(5000)
    cosines = np.sort((x @ x.T)[np.triu_indices(len(x), 1)])
    high = cosines[(cosines > 0.6) & (cosines < 0.7)]
    widest = int(np.diff(high).argmax())  # where rounding moves no pair to the other side
    threshold = float(high[widest : widest + 2].mean())
    assert greedy_count(x, threshold, CUDA) == greedy_count(x, threshold, CPU) < len(x)


def test_centres_are_those_of_a_cpu() -> None:
    labels = np.sort(np.random.default_rng(3).choice([2, 3, 5, 9], 5000, p=[0.9, 0.09, 0.0099, 0.0001]))
    x = unit(5000)
    wanted, found = centres(x, labels), centres(x, labels, CUDA)
    assert found.identities_I.tolist() == wanted.identities_I.tolist()
    np.testing.assert_allclose(found.rows_ID, wanted.rows_ID, atol=1e-6)
    same(found.to_centre, wanted.to_centre)


def test_a_run_is_audited_as_on_a_cpu(tmp_path: Path) -> None:
    put_faces(tmp_path / "faces")
    run = audited_run(tmp_path / "run", tmp_path / "faces")
    wanted = audit_here(auditor(run))
    run.store.delete(AUDIT)
    close(audit_here(auditor(run), CUDA), wanted)


def close(found: Any, wanted: Any, name: str = "audit") -> None:
    """Check that records are the same, cosines to 2e-4; histograms may differ by pairs at the edge of a bin."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), name
        for key, value in wanted.items():
            close(found[key], value, f"{name}.{key}")
    elif isinstance(wanted, list) and name.endswith(".histogram"):
        assert sum(found) == sum(wanted), name
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), name
        for row, value in enumerate(wanted):
            close(found[row], value, f"{name}[{row}]")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=2e-4), name
    else:
        assert found == wanted, name
