"""All pairs, tile by tile, against the matrix of all cosines; and what is read from the counts."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hyperface.audit import pairs
from hyperface.audit.distribution import FINE, Tally, equal_error, threshold_at
from hyperface.audit.machine import Machine
from hyperface.audit.separation import centres, closest_rows, greedy_count

COUNT = 2 * pairs.TILE + 77


def unit(count: int, dim: int = 24, seed: int = 0) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).standard_normal((count, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def counted(cosines: NDArray[np.float64]) -> NDArray[np.int64]:
    bins = np.clip((cosines + 1) * (FINE / 2), 0, FINE - 1).astype(int)
    return np.bincount(bins.ravel(), minlength=FINE)


def off(found: NDArray[np.int64], wanted: NDArray[np.int64]) -> int:
    """Pairs that must move by one bin (rounding at its edge) to make the counts equal."""
    return int(np.abs(np.cumsum(found - wanted)).sum())


def test_every_pair_is_counted_once_on_its_side_and_in_its_bin() -> None:
    x, labels = unit(COUNT), np.sort(np.random.default_rng(1).integers(0, 100, COUNT))
    found = pairs.all_pairs(x, labels)
    cosines = x.astype(np.float64) @ x.T
    above = np.triu(np.ones(cosines.shape, bool), 1)
    same = labels[:, None] == labels
    for tally, wanted in ((found.between, cosines[above & ~same]), (found.within, cosines[above & same])):
        assert tally.count == len(wanted)
        assert off(tally.fine_F, counted(wanted)) <= 1e-3 * len(wanted)
        assert tally.total == pytest.approx(wanted.sum(), abs=1e-2)
        assert (tally.least, tally.most) == pytest.approx((wanted.min(), wanted.max()), abs=1e-6)


def test_the_nearest_is_of_another_label_and_is_found_again() -> None:
    x, labels = unit(COUNT), np.arange(COUNT) // 7
    nearest = pairs.all_pairs(x, labels).nearest
    cosines = np.where(labels[:, None] == labels, -2, x.astype(np.float64) @ x.T)
    np.testing.assert_allclose(nearest.cosines_N, cosines.max(axis=1), atol=1e-6)
    for row in (0, 5, pairs.TILE - 1, pairs.TILE, COUNT - 1):
        other = pairs.partner(nearest, row, x, x, labels)
        assert cosines[row, other] == pytest.approx(cosines[row].max(), abs=1e-6)


def test_one_label_has_no_pairs_between_and_no_nearest() -> None:
    found = pairs.all_pairs(unit(30), np.zeros(30, np.int64))
    assert (found.between.count, found.within.count) == (0, 435)
    assert found.between.distribution() is None
    assert not found.nearest.there_N.any()


def test_two_sets_are_compared_row_by_row() -> None:
    x, others = unit(pairs.TILE + 9), unit(2 * pairs.TILE + 3, seed=2)
    found = pairs.cross_pairs(x, others)
    cosines = x.astype(np.float64) @ others.T
    assert found.between.count == cosines.size
    assert off(found.between.fine_F, counted(cosines)) <= 1e-3 * cosines.size
    assert found.between.total == pytest.approx(cosines.sum(), abs=1e-2)
    np.testing.assert_allclose(found.nearest.cosines_N, cosines.max(axis=1), atol=1e-6)
    assert pairs.partner(found.nearest, 3, x, others) == cosines[3].argmax()


def test_any_number_of_threads_counts_the_same() -> None:
    x, labels, before = unit(COUNT), np.arange(COUNT) // 3, torch.get_num_threads()
    alone = pairs.all_pairs(x, labels)
    try:
        torch.set_num_threads(3)
        together = pairs.all_pairs(x, labels)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(alone.between.fine_F, together.between.fine_F)
    np.testing.assert_array_equal(alone.nearest.cosines_N, together.nearest.cosines_N)
    np.testing.assert_array_equal(alone.nearest.tiles_N, together.nearest.tiles_N)
    assert alone.between.distribution() == together.between.distribution()


def test_who_listens_hears_how_many_tiles_are_done_and_how_long_the_others_take() -> None:
    x, said, seldom = unit(COUNT), list[str](), list[str]()
    pairs.all_pairs(x, on=Machine(say=said.append, seconds=0).at("images by the judge"))
    pairs.cross_pairs(x, x[: pairs.TILE + 1], Machine(say=said.append, seconds=0))
    pairs.all_pairs(x, on=Machine(say=seldom.append, seconds=3600))
    assert [text.split(",")[0] for text in said] == [
        *(f"images by the judge: {done}/6 tiles" for done in range(1, 7)),
        *(f"rows: {done}/6 tiles" for done in range(1, 7)),
    ]
    assert said[-1].endswith("ETA 0:00:00")
    assert seldom == []


def test_who_listens_hears_how_far_the_count_of_identities_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperface.audit.separation.BLOCK", 300)
    said = list[str]()
    greedy_count(unit(900), 0.9, Machine(say=said.append, seconds=0))
    assert [text.split(",")[0] for text in said] == [f"rows: {done}/6 pairs of blocks" for done in (1, 3, 6)]


def test_of_equally_near_rows_the_first_is_taken_whichever_tile_comes_first() -> None:
    x = np.tile(unit(pairs.TILE), (3, 1))
    found = pairs.all_pairs(x).nearest
    walk = pairs._Walk(torch.from_numpy(x), None, np.arange(len(x)))
    walk.run(iter(list(pairs._triangle(len(x), pairs.TILE))[::-1]))
    np.testing.assert_array_equal(walk.nearest.tiles_N, found.tiles_N)
    assert set(found.tiles_N[2 * pairs.TILE :].tolist()) == {0}


def test_equal_and_opposite_rows_fall_into_the_last_and_the_first_bin() -> None:
    east = np.array([[1, 0], [1, 0], [-1, 0]], np.float32) * np.float32(1.0005)
    found = pairs.all_pairs(east).between
    assert (found.fine_F[-1], found.fine_F[0], found.count) == (1, 2, 3)
    assert (found.least, found.most) == (-1, 1)


def test_rows_are_read_from_a_map_that_nobody_may_write(tmp_path: Path) -> None:
    x = unit(700)
    np.save(tmp_path / "rows.npy", x)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    np.testing.assert_array_equal(pairs.all_pairs(mapped).between.fine_F, pairs.all_pairs(x).between.fine_F)


def test_counts_of_parts_add_up() -> None:
    x = np.linspace(-0.9, 0.8, 500).astype(np.float32)
    whole, parts = Tally(), Tally()
    whole.add(x)
    for part in (x[:100], x[100:]):
        tally = Tally()
        tally.add(part)
        parts.merge(tally)
    assert parts.distribution() == whole.distribution()


def test_the_threshold_of_a_rate_is_the_lowest_that_keeps_it() -> None:
    tally = Tally()
    tally.add(np.linspace(0, 0.9999, 10_000).astype(np.float32))
    threshold = threshold_at(tally, 1e-2)
    assert threshold == pytest.approx(0.99, abs=2e-4)
    assert threshold is not None
    assert tally.at_or_above(threshold) <= 100 < tally.at_or_above(threshold - 2 / FINE)
    assert tally.below(threshold) + tally.at_or_above(threshold) == 10_000


@pytest.mark.parametrize(("count", "measurable"), [(9_999, False), (10_000, True)])
def test_a_rate_needs_as_many_pairs_as_its_inverse(count: int, measurable: bool) -> None:
    tally = Tally()
    tally.add(np.zeros(count, np.float32))
    assert (threshold_at(tally, 1e-4) is not None) == measurable


def test_a_share_of_the_impostors_that_is_a_whole_number_is_not_rounded_down() -> None:
    tally, count = Tally(), 29  # 29 / 100 of 100 is 28.999999999999996 in floating point
    tally.add(np.repeat(np.array([0.5, 0.1], np.float32), [count, 100 - count]))
    assert int(100 * 0.29) == count - 1
    assert threshold_at(tally, 0.29) == pytest.approx(0.1, abs=1e-3)


def test_without_impostors_there_is_no_equal_error_rate() -> None:
    genuine = Tally()
    genuine.add(np.ones(3, np.float32))
    assert equal_error(genuine, Tally()) == (None, None)


def test_centres_of_large_and_small_identities_are_their_mean_directions() -> None:
    labels = np.sort(np.random.default_rng(3).choice([2, 3, 5, 9], 5000, p=[0.9, 0.09, 0.009, 0.001]))
    x = unit(5000)
    found = centres(x, labels)
    assert found.identities_I.tolist() == np.unique(labels).tolist()
    for identity, row in zip(found.identities_I, found.rows_ID, strict=True):
        mean = x[labels == identity].mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)


def test_an_identity_counts_unless_one_that_counts_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = np.deg2rad([0, 30, 60, 200, 210, 359])
    fan = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert greedy_count(fan, np.cos(np.deg2rad(40))) == 3  # 0; 30 is near 0; 60 is not; 200; 210 is; 359 is
    assert greedy_count(fan, np.cos(np.deg2rad(5))) == 5
    x = unit(900, dim=6)
    kept: list[int] = []
    for row in range(len(x)):
        if not (x[kept] @ x[row] >= 0.7).any():
            kept.append(row)
    monkeypatch.setattr("hyperface.audit.separation.BLOCK", 16)
    assert greedy_count(x, 0.7) == len(kept) > 3 * 16


def test_rows_come_by_their_cosine_of_equals_the_first_and_only_a_few_as_numbers() -> None:
    count = 100_000
    cosines = np.round(np.random.default_rng(4).random(count, dtype=np.float32), 3)
    nearest = pairs.Nearest(cosines, np.zeros(count, np.int64), pairs.TILE)
    tracemalloc.start()
    try:
        found = np.fromiter(pairs.by_cosine(nearest), np.int64, count)
        peak = tracemalloc.get_traced_memory()[1] - found.nbytes
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, np.lexsort((np.arange(count), -cosines)))
    assert peak < 24 * count


def test_closest_rows_of_one_identity_are_no_pair() -> None:
    x, labels = np.repeat(unit(3, dim=8), 2, axis=0), np.array([0, 0, 1, 1, 2, 2])
    found = closest_rows(pairs.all_pairs(x, labels).nearest, x, labels, 5)
    assert len(found) == 1
    assert labels[found[0].first] != labels[found[0].second]
