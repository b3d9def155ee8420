"""GFLOP/s and memory of the all-pairs audit, against a plain product of the same rows in the same process.

    python -m tests.benchmarks.bench_audit [rows] [repeats]

Rows of 512 numbers, 50 to an identity, lie in a file that is mapped, as the audit has them. `plain`: blocks of 2,048
rows times all rows, by torch.mm into one buffer, nothing else: 2 N N D operations. `audit`: all pairs counted and the
nearest of each row, 2 D operations for each of the N (N + 1) / 2 cosines; it is not credited with the other half, which
it saves. The two take turns, and each share is of two neighbours in time. Memory is what the process holds besides
pages of files, at its highest in steps of 2 ms, less what it held before: for all rows, for a tenth of them, and for a
million rows against 512 others, each of which is compared with each, in a file of 2 GB. What else the audit does with
a million rows (centres, leakage of 512 real faces, the most alike pairs and identities) is looked at with rows of 64
numbers, beside which it takes the same: the numbers of identities and images and the nearest of each row are in it,
28 bytes a row. All pairs of a million rows would take hours.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hyperface.audit import pairs, separation
from hyperface.audit.image_embeddings import Stored
from hyperface.audit.leakage import known, leakage
from hyperface.audit.real_table import RealTable
from tests.benchmarks import record
from tests.benchmarks.bench_export import resident

DIM, PER_IDENTITY, BLOCK, TIMES = 512, 50, 2_048, 10
MANY, OTHERS, FEW_NUMBERS, SHOWN = 1_000_000, 512, 64, 24

Rows = NDArray[np.float32]


def mapped(path: Path, count: int, dim: int = DIM) -> Rows:
    """Rows around the centres of their identities, in a file."""
    random = np.random.default_rng(0)
    rows_ND = np.lib.format.open_memmap(path, "w+", np.float32, (count, dim))
    for first in range(0, count, PER_IDENTITY):
        drawn = random.standard_normal(dim) + random.standard_normal((PER_IDENTITY, dim), np.float32)
        rows_ND[first : first + PER_IDENTITY] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    rows_ND.flush()
    del rows_ND
    found: Rows = np.load(path, mmap_mode="r+")
    return found


def plain(x_ND: torch.Tensor, out: torch.Tensor) -> None:
    for first in range(0, len(x_ND), BLOCK):
        block = x_ND[first : first + BLOCK]
        torch.mm(block, x_ND.T, out=out[: len(block)])


def audit(x_ND: Rows) -> None:
    found = pairs.all_pairs(x_ND, np.arange(len(x_ND)) // PER_IDENTITY)
    assert found.between.count + found.within.count == len(x_ND) * (len(x_ND) - 1) // 2


def against(x_ND: Rows) -> None:
    found = pairs.cross_pairs(x_ND, np.array(x_ND[:OTHERS]))
    assert found.between.count == len(x_ND) * OTHERS


def parts(x_ND: Rows) -> None:
    count = len(x_ND)
    stored = Stored(x_ND, np.arange(count) // PER_IDENTITY, np.arange(count) % PER_IDENTITY, [])
    faces = RealTable("faces", list(range(OTHERS)), np.arange(OTHERS), {"judge": np.array(x_ND[:OTHERS])}, None, "")
    real, centres = known(faces, "judge", 1e-3), separation.centres(x_ND, stored.identities_N)
    found, _ = leakage(stored, centres, real, real.threshold, 0.9, SHOWN)
    assert found["images"]["pairs"]["count"] == count * OTHERS
    random = np.random.default_rng(0)
    tiles_N = random.integers(0, count // pairs.TILE, count) * pairs.TILE
    nearest = pairs.Nearest(random.random(count, dtype=np.float32), tiles_N, pairs.TILE)
    assert len(separation.closest_rows(nearest, x_ND, stored.identities_N, SHOWN)) == SHOWN


def seconds(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def highest(call: Callable[[], None]) -> float:
    """MiB that the process held at most while it ran, more than before."""
    before, peak, ended = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.002):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    ended.set()
    watcher.join()
    return max(0, peak - before) / 2**20


def held_by_parts(path: Path) -> float:
    """Measure in a process of its own, whose allocator has no stock yet."""
    torch.set_num_threads(1)
    x_ND = np.load(path, mmap_mode="r+")
    return highest(lambda: parts(x_ND))


def compared(x_ND: Rows, threads: int, repeats: int) -> dict[str, object]:
    """GFLOP/s of both, and the share that one reaches of the other, in turns."""
    torch.set_num_threads(threads)
    tensor, out = torch.from_numpy(x_ND), torch.empty(BLOCK, len(x_ND))
    count, found = len(x_ND), list[tuple[float, float]]()
    audit(x_ND[: 4 * pairs.TILE])
    plain(tensor[:BLOCK], out[:, :BLOCK])
    for repeat in range(repeats):
        both = {"plain": lambda: plain(tensor, out), "audit": lambda: audit(x_ND)}
        order = sorted(both, reverse=repeat % 2 == 0)
        took = {name: seconds(both[name]) for name in order}
        work = {"plain": 2 * DIM * count * count, "audit": DIM * count * (count + 1)}
        found.append((work["plain"] / took["plain"] / 1e9, work["audit"] / took["audit"] / 1e9))
    return {
        "plain GFLOP/s": record.spread([bare for bare, _ in found]),
        "audit GFLOP/s": record.spread([counted for _, counted in found]),
        "share": record.spread([counted / bare for bare, counted in found]),
    }


def main(count: int = 20_000, repeats: int = 5) -> None:
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="hyperface-bench-") as folder:
        x_ND = mapped(Path(folder, "rows.npy"), count)
        # First of all: later the allocator's own stock would hide what is taken.
        torch.set_num_threads(1)
        memory = {f"{rows} rows": highest(lambda rows=rows: audit(x_ND[:rows])) for rows in (count // TIMES, count)}
        many = Path(folder, "many.npy")
        many_ND = mapped(many, MANY)
        memory[f"{MANY} rows against {OTHERS}"] = highest(lambda: against(many_ND))
        many.unlink()  # the map holds it until the end
        looked_at = Path(folder, "parts.npy")
        mapped(looked_at, MANY, FEW_NUMBERS)
        with get_context("spawn").Pool(1) as fresh:
            held = fresh.apply(held_by_parts, (looked_at,))
        memory[f"centres, leakage, most alike of {MANY} rows of {FEW_NUMBERS}"] = held
        measured = {f"{threads} thread(s)": compared(x_ND, threads, repeats) for threads in sorted({1, cores})}
    settings = {"rows": count, "dimensions": DIM, "images per identity": PER_IDENTITY, "tile": pairs.TILE}
    settings |= {"MiB of the rows": round(count * DIM * 4 / 2**20, 1), "load before": os.getloadavg()[0]}
    record.write("audit", settings, {"MiB held besides the mapped rows, 1 thread": memory, **measured})


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
