"""Comparison of all pairs of unit rows, tile by tile: the distribution of their cosines, and the nearest other row of
each.

The one way in which all-pairs statistics are made here. Every cosine is one float32 product and is counted, none is
sampled: counts are exact to a bin of `distribution.FINE`, highest cosines to rounding. Memory: a tile per thread, and
8 bytes per row. Rows may be a memory map; they are read, never copied (a GPU gets a copy of all of them).

A tile is multiplied into a buffer that fits a core's cache and is then passed over a few more times: highest cosine of
each row and column, lowest of all, number of the bin, count. Pairs that are not to be counted get a cosine that no pair
has, and a bin of their own; they are looked for only in tiles near the diagonal, because rows of one label are
neighbours. Measured against the bare products by tests/benchmarks/bench_audit.py.

Shape legend: N rows, G rows of another set, D embedding dimension, R and C rows and columns of a tile.
"""

import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperface.audit.distribution import FINE, Tally
from hyperface.audit.machine import CPU, Machine

TILE = 512
"""Rows and columns of a tile on a CPU: 1 MB of cosines."""
TILE_ON_A_GPU = 8192

NONE = -1.25
"""Number in the place of a cosine that does not exist: exact in float32, and below every cosine."""
_PER_ONE = FINE / 2
_SHIFT = -NONE * _PER_ONE
"""Shift of bins by which NONE falls into bin 0, and -1 is bin `_FIRST`."""
_FIRST = int(_SHIFT - _PER_ONE)
_LAST = _FIRST + FINE - 1
_ORDERED = 4096
"""Rows whose numbers are Python objects at a time, which take 40 bytes each."""
_LENGTH = _LAST + 101
"""Number of bins, with room for cosines of 1.002, of rows of norm 1.001."""

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Nearest:
    """The highest cosine of each row to a row it is compared with, and where that one is."""

    cosines_N: NDArray[np.float32]
    """Highest cosine of each row; NONE for a row that is compared with none."""
    tiles_N: NDArray[np.int64]
    """First row of the tile that holds it; -1 for none."""
    tile: int

    @property
    def there_N(self) -> NDArray[np.bool_]:
        there: NDArray[np.bool_] = self.tiles_N >= 0
        return there


@dataclass(frozen=True)
class AllPairs:
    """Every unordered pair of two rows, once."""

    between: Tally
    """Pairs of two labels."""
    within: Tally
    """Pairs of one label."""
    nearest: Nearest
    """Nearest row to each row among those of other labels."""


@dataclass(frozen=True)
class CrossPairs:
    """Every pair of a row of one set and a row of another."""

    between: Tally
    nearest: Nearest
    """Nearest row of the second set to each row of the first."""


def all_pairs(x_ND: Rows, labels_N: NDArray[np.int64] | None = None, on: Machine = CPU) -> AllPairs:
    """Count every pair of unit rows.

    Args:
        x_ND: float32, norm 1 to 1e-3; see `embeddings.check_unit`.
        labels_N: ascending; rows of one label are one person. None: every row is a person of its own.
    """
    labels_N = np.arange(len(x_ND)) if labels_N is None else labels_N
    assert labels_N.shape == (len(x_ND),), (labels_N.shape, x_ND.shape)
    assert (np.diff(labels_N) >= 0).all(), "labels must ascend"
    walk = _Walk(tensor(x_ND, on.device), None, labels_N, on)
    walk.run(_triangle(len(x_ND), walk.tile))
    sum_D, squares = _sums(walk.x_ND)
    walk.between.total = float(sum_D @ sum_D - squares) / 2 - walk.within.total
    return AllPairs(walk.between, walk.within, walk.nearest)


def cross_pairs(x_ND: Rows, g_GD: Rows, on: Machine = CPU) -> CrossPairs:
    """Count every pair of a unit row of one set and one of another; float32 rows of one dimension."""
    walk = _Walk(tensor(x_ND, on.device), tensor(g_GD, on.device), None, on)
    walk.run(_rectangle(len(x_ND), len(g_GD), walk.tile))
    walk.between.total = float(_sums(walk.x_ND)[0] @ _sums(walk.others_GD)[0])
    return CrossPairs(walk.between, walk.nearest)


def partner(nearest: Nearest, row: int, x_ND: Rows, others_GD: Rows, labels_N: NDArray[np.int64] | None = None) -> int:
    """The row of the second set that is nearest to a row of the first.

    Args:
        labels_N: labels of both sets, where they are one: rows of the same label do not count.
    """
    first = int(nearest.tiles_N[row])
    assert first >= 0, row
    columns = slice(first, first + nearest.tile)
    cosines_C = others_GD[columns] @ x_ND[row]
    if labels_N is not None:
        cosines_C = np.where(labels_N[columns] == labels_N[row], NONE, cosines_C)
    return first + int(cosines_C.argmax())


def by_cosine(nearest: Nearest) -> Iterator[int]:
    """Rows from the highest cosine to the lowest, of equals the first. Memory: 16 bytes a row."""
    order_N = np.argsort(-nearest.cosines_N, kind="stable")
    for first in range(0, len(order_N), _ORDERED):
        yield from order_N[first : first + _ORDERED].tolist()


def tensor(x_ND: Rows, device: str) -> Tensor:
    """float32 rows as a tensor that nobody writes to: on a CPU the rows themselves, on a GPU a copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch fears for rows that may not be written; they are read
        return torch.from_numpy(np.asarray(x_ND, np.float32)).to(device)


def _sums(x_ND: Tensor) -> tuple[Tensor, float]:
    """Return (sum of the rows, sum of their squared norms): the mean of all cosines needs no pass over the pairs."""
    sum_D, squares = torch.zeros(x_ND.shape[1], dtype=torch.float64, device=x_ND.device), 0.0
    for first in range(0, len(x_ND), TILE):
        block_RD = x_ND[first : first + TILE]
        sum_D += block_RD.sum(dim=0, dtype=torch.float64)
        squares += float(torch.linalg.vector_norm(block_RD)) ** 2
    return sum_D, squares


Tiles = Iterator[tuple[slice, slice]]


def _triangle(count: int, tile: int) -> Tiles:
    """Yield (rows, columns) of the tiles on and above the diagonal."""
    for first in range(0, count, tile):
        for second in range(first, count, tile):
            yield slice(first, min(first + tile, count)), slice(second, min(second + tile, count))


def _rectangle(rows: int, columns: int, tile: int) -> Tiles:
    for first in range(0, rows, tile):
        for second in range(0, columns, tile):
            yield slice(first, min(first + tile, rows)), slice(second, min(second + tile, columns))


class _Walk:
    """The tiles, shared among threads, and the findings in them so far."""

    def __init__(
        self, x_ND: Tensor, others_GD: Tensor | None, labels_N: NDArray[np.int64] | None, on: Machine = CPU
    ) -> None:
        self.x_ND, self.labels_N = x_ND, labels_N
        self.mirrored = others_GD is None
        """True for one set: a tile above the diagonal stands for that below it as well."""
        self.others_GD = x_ND if others_GD is None else others_GD
        self.tile = TILE if x_ND.device.type == "cpu" else TILE_ON_A_GPU
        self.between, self.within = Tally(), Tally()
        count = len(x_ND)
        self.nearest = Nearest(np.full(count, NONE, np.float32), np.full(count, -1, np.int64), self.tile)
        self.lock = threading.Lock()
        across, down = -(-count // self.tile), -(-len(self.others_GD) // self.tile)
        self.meter = on.meter("tiles", across * (across + 1) // 2 if self.mirrored else across * down)

    def run(self, tiles: Tiles) -> None:
        """Run a thread per core, each with a tile of its own: operators that share one tile among cores wait for each
        other several times a tile, and not all of them can."""
        threads = torch.get_num_threads() if self.x_ND.device.type == "cpu" else 1
        if threads == 1:
            self._work(tiles)
            return
        try:
            with ThreadPoolExecutor(threads) as pool:
                for done in [pool.submit(self._alone, tiles) for _ in range(threads)]:
                    done.result()
        finally:
            torch.set_num_threads(threads)

    def _alone(self, tiles: Tiles) -> None:
        torch.set_num_threads(1)
        self._work(tiles)

    @torch.inference_mode()
    def _work(self, tiles: Tiles) -> None:
        buffers = _Buffers(self.tile, self.x_ND.device)
        while (place := self._next(tiles)) is not None:
            self._count(*place, buffers)
            with self.lock:
                self.meter.reach(self.meter.done + 1)
        with self.lock:
            self.between.merge(buffers.tally())

    def _next(self, tiles: Tiles) -> tuple[slice, slice] | None:
        with self.lock:
            return next(tiles, None)

    def _count(self, rows: slice, columns: slice, buffers: "_Buffers") -> None:
        cosines_RC, bins_RC = buffers.of(rows, columns)
        torch.mm(self.x_ND[rows], self.others_GD[columns].T, out=cosines_RC)
        hidden_RC = self._hidden(rows, columns, cosines_RC)
        if hidden_RC is not None:
            cosines_RC.masked_fill_(hidden_RC, NONE)
        of_rows = cosines_RC.amax(dim=1)
        buffers.most = max(buffers.most, float(of_rows.amax()))
        self._raise(rows, columns.start, of_rows)
        if self.mirrored:
            self._raise(columns, rows.start, cosines_RC.amax(dim=0))
        bins_RC.copy_(torch.add(buffers.shift, cosines_RC, alpha=_PER_ONE, out=cosines_RC))
        buffers.count(cosines_RC, bins_RC)

    def _hidden(self, rows: slice, columns: slice, cosines_RC: Tensor) -> Tensor | None:
        """Return which pairs of the tile are not of two labels, or have been counted; those of one label are counted
        here."""
        labels_N = self.labels_N
        if labels_N is None or labels_N[rows.stop - 1] < labels_N[columns.start]:
            return None
        same_RC = labels_N[rows, None] == labels_N[None, columns]
        hidden_RC = own_RC = same_RC
        if rows.start == columns.start:
            above_RC = np.triu(np.ones(same_RC.shape, np.bool_), 1)
            hidden_RC, own_RC = same_RC | ~above_RC, same_RC & above_RC
        if own_RC.any():
            own = cosines_RC.cpu().numpy()[own_RC]
            with self.lock:
                self.within.add(own)
        return torch.from_numpy(hidden_RC).to(cosines_RC.device)

    def _raise(self, own: slice, tile: int, best: Tensor) -> None:
        """Take what a tile holds where it is higher; of equals the first tile, whichever thread comes first."""
        best_R = best.cpu().numpy()
        with self.lock:
            cosines_R, tiles_R = self.nearest.cosines_N[own], self.nearest.tiles_N[own]
            higher = (best_R > cosines_R) | ((best_R == cosines_R) & (best_R > NONE) & (tile < tiles_R))
            cosines_R[higher], tiles_R[higher] = best_R[higher], tile


class _Buffers:
    """Memory that a thread works in, and its counts."""

    def __init__(self, tile: int, device: torch.device) -> None:
        self.cosines = torch.empty(tile * tile, device=device)
        self.bins = torch.empty(tile * tile, dtype=torch.int16, device=device)
        self.counts = torch.zeros(_LENGTH, dtype=torch.int64, device=device)
        self.shift = torch.tensor(_SHIFT, device=device)
        self.least, self.most = 1.0, -1.0

    def of(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        size = shape[0] * shape[1]
        return self.cosines[:size].view(shape), self.bins[:size].view(shape)

    def count(self, places_RC: Tensor, bins_RC: Tensor) -> None:
        """Count a tile; `places_RC` are the cosines as numbers of bins, with their fractions."""
        counts = torch.bincount(bins_RC.view(-1), minlength=_LENGTH)
        self.counts += counts
        lowest = int(_SHIFT + self.least * _PER_ONE) + 1
        if counts[1:lowest].cpu().numpy().any():  # a pass over the tile, which only a few tiles need
            least = torch.where(places_RC < 1, _LENGTH, places_RC).amin()
            self.least = min(self.least, (float(least) - _SHIFT) / _PER_ONE)

    def tally(self) -> Tally:
        """Return the counts as a tally; its total is not counted here."""
        counts = self.counts.cpu().numpy()
        fine_F = counts[_FIRST : _LAST + 1].copy()
        fine_F[0] += counts[1:_FIRST].sum()
        fine_F[-1] += counts[_LAST + 1 :].sum()
        return Tally(fine_F, 0.0, max(self.least, -1.0), min(self.most, 1.0))
