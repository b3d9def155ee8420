"""Cosines of all pairs, tile by tile: nearest neighbours, or a sum over pairs with its gradient.

A tile is a small matrix of cosines that lives in a cache; no matrix of all pairs is ever held. A pair of rows of the
same set is looked at once, and its cosine serves both of them. Products are of the dtype of the rows (bfloat16 ones
add up in float32 inside); what is summed over tiles is float32, or float64 for rows that are. Nothing here waits for a
device.

A: rows of a block, B: its columns, N: all rows, D: embedding dimension.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

TILE = {"cpu": 1024, "cuda": 4096}
"""Rows and columns of a tile: 4 MiB in float32 on a CPU, 32 MiB in bfloat16 on a GPU, inside its L2 cache."""

LARGEST_EXPONENT = 60.0
"""Largest exponent of a pair: 1e10 pairs of this size still add up to a float32."""


@dataclass(frozen=True)
class Block:
    """Some rows and the columns that they look at. `first_row` and `first_column` say where they stand among all."""

    rows_AD: Tensor
    first_row: int
    columns_BD: Tensor
    first_column: int
    both: bool = False
    """True where the columns look back: what a tile says is noted for its columns as well."""
    self_A: Tensor | None = None
    """Column of each row, when rows are a choice of the columns: it does not see that one."""

    @property
    def diagonal(self) -> bool:
        """True where rows and columns are the same; then half of the tiles say it all."""
        return self.both and self.first_row == self.first_column

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        side = TILE.get(self.rows_AD.device.type, TILE["cpu"])
        for top in range(0, len(self.rows_AD), side):
            for left in range(top if self.diagonal else 0, len(self.columns_BD), side):
                yield (
                    slice(top, min(top + side, len(self.rows_AD))),
                    slice(left, min(left + side, len(self.columns_BD))),
                )


class Buffer:
    """Memory for one tile, used again and again: fresh pages for each would cost as much as its arithmetic."""

    def __init__(self, like: Tensor) -> None:
        side = TILE.get(like.device.type, TILE["cpu"])
        self._room = torch.empty(side * side, dtype=like.dtype, device=like.device)

    def tile(self, block: Block, rows: slice, columns: slice, shift: Tensor | None, scale: float) -> Tensor:
        """Return scale * cosine - shift, a row's cosine with itself -inf. The shift comes before rounding."""
        rows_aD, columns_bD = block.rows_AD[rows], block.columns_BD[columns]
        shape = len(rows_aD), len(columns_bD)
        cosine_ab = self._room[: shape[0] * shape[1]].view(shape)
        if shift is None:
            torch.mm(rows_aD, columns_bD.T, out=cosine_ab)
        else:
            torch.addmm(-shift, rows_aD, columns_bD.T, alpha=scale, out=cosine_ab)
        if block.diagonal and rows == columns:
            cosine_ab.diagonal().fill_(-math.inf)
        if block.self_A is not None:
            column_b = torch.arange(columns.start, columns.stop, device=cosine_ab.device)
            cosine_ab.masked_fill_(block.self_A[rows, None] == column_b, -math.inf)
        return cosine_ab


class Nearest:
    """The nearest that each of N rows has seen."""

    def __init__(self, n: int, device: torch.device) -> None:
        self._best_N = torch.full((n,), torch.iinfo(torch.int64).min, device=device)

    def look(self, block: Block) -> None:
        buffer = Buffer(block.rows_AD)
        for rows, columns in block.tiles():
            cosine_ab = buffer.tile(block, rows, columns, None, 1.0)
            self._note(block.first_row, rows, block.first_column + columns.start, cosine_ab.max(1))
            if block.both and not (block.diagonal and rows == columns):
                self._note(block.first_column, columns, block.first_row + rows.start, cosine_ab.max(0))

    @property
    def packed_N(self) -> Tensor:
        """Cosine and index in one int64 of which the larger is the nearer, and of equals the one of smaller index."""
        return self._best_N

    def _note(self, first: int, rows: slice, first_other: int, seen: tuple[Tensor, Tensor]) -> None:
        at = slice(first + rows.start, first + rows.stop)
        self._best_N[at] = torch.maximum(self._best_N[at], pack(seen[0], seen[1] + first_other))


def pack(cosine_N: Tensor, index_N: Tensor) -> Tensor:
    """Pack (cosine, index) into one int64 each: its upper half orders as the cosine in float32, its lower is -1 -
    index."""
    bits_N = cosine_N.float().view(torch.int32)
    ordered_N = bits_N ^ ((bits_N >> 31) & 0x7FFFFFFF)
    return (ordered_N.long() << 32) | (0xFFFFFFFF - index_N)


def unpack(packed_N: Tensor) -> tuple[Tensor, Tensor]:
    """Unpack (cosine: float32, index: int64) of what `pack` made."""
    ordered_N = (packed_N >> 32).int()
    bits_N = ordered_N ^ ((ordered_N >> 31) & 0x7FFFFFFF)
    return bits_N.view(torch.float32), 0xFFFFFFFF - (packed_N & 0xFFFFFFFF)


def nearest(rows_AD: Tensor, columns_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Return (cosine, index) of the nearest column to each row."""
    seen = Nearest(len(rows_AD), rows_AD.device)
    seen.look(Block(rows_AD, 0, columns_BD, 0))
    return unpack(seen.packed_N)


class SoftPairs:
    """Sums of exp((cosine - shift) / tau) over pairs of N rows, with what each row's gradient takes from them.

    The shift, a 0-dimensional tensor, should be near the largest cosine. Where it is not, terms too large for float32
    are cut to LARGEST_EXPONENT, and a sum of terms too small for it is 0.
    """

    def __init__(self, n: int, dim: int, like: Tensor, shift: Tensor, tau: float) -> None:
        kind = torch.promote_types(like.dtype, torch.float32)
        self.offset, self.tau = (shift / tau).to(like.dtype), tau
        self.shift = self.offset.to(kind) * tau  # as it is after rounding
        self.total = torch.zeros((), dtype=kind, device=like.device)
        """Sum over pairs, each pair once."""
        self.pull_ND = torch.zeros(n, dim, dtype=kind, device=like.device)
        """Sum of exp(..) x_j, for row i, over the j that it is paired with: tau times the gradient of `total`."""
        self._scaled_N = torch.full((n,), -math.inf, dtype=kind, device=like.device)

    @property
    def cosine_N(self) -> Tensor:
        """Return the cosine of each row with its nearest."""
        return self.shift + self.tau * self._scaled_N

    def look(self, block: Block) -> None:
        buffer = Buffer(block.rows_AD)
        for rows, columns in block.tiles():
            tile_ab = buffer.tile(block, rows, columns, self.offset, 1 / self.tau)
            twice = (block.diagonal and rows == columns) or block.self_A is not None
            back = block.both and not twice
            self._note(block.first_row, rows, tile_ab.amax(1))
            if back:
                self._note(block.first_column, columns, tile_ab.amax(0))
            tile_ab.clamp_(max=LARGEST_EXPONENT).exp_()
            self.total += tile_ab.sum(dtype=self.total.dtype) * (0.5 if twice else 1.0)
            self._pull(block.first_row, rows, tile_ab, block.columns_BD[columns])
            if back:
                self._pull(block.first_column, columns, tile_ab.T, block.rows_AD[rows])

    def _note(self, first: int, rows: slice, seen: Tensor) -> None:
        at = slice(first + rows.start, first + rows.stop)
        torch.maximum(self._scaled_N[at], seen.to(self._scaled_N.dtype), out=self._scaled_N[at])

    def _pull(self, first: int, rows: slice, weight_ab: Tensor, others_bD: Tensor) -> None:
        pull_aD = self.pull_ND[first + rows.start : first + rows.stop]
        if weight_ab.dtype == pull_aD.dtype:
            pull_aD.addmm_(weight_ab, others_bD)
        else:
            pull_aD += weight_ab @ others_bD
