"""Measuring the rates of one actor of each stage, with the functions that the stages call, for some seconds each.

N: rows, D: embedding dimension.
"""

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from hyperface.capacity import packing
from hyperface.capacity.packing import Rows
from hyperface.config import Config
from hyperface.dataset.dataset import from_bytes
from hyperface.dataset.marker import Marker
from hyperface.dataset.plan import Plan, marker_file, shard_file
from hyperface.errors import RunError
from hyperface.faces import gallery, source
from hyperface.run import Run
from hyperface.storage import Store, open_store

if TYPE_CHECKING:
    from hyperface.synthesis.shards import References

Kind = Literal["float32", "bfloat16"]
"""Kind of the products of a packing."""
SECONDS = 10.0
"""Seconds, about, for which each stage is measured."""
REFERENCES = 128
"""Most identities that are packed to be drawn."""
LARGEST = 1 << 16
"""Rows of the largest packing that is timed."""
PAYLOAD = 32 * 1_000_000
"""Bytes of the upload that is timed, at most those of a planned shard's images at 100 kB each."""
SCRATCH = "plan/scratch"
"""Folder inside the run for what is measured; nothing is left there."""

Numbers = dict[str, float]


def scratch_of(config: Config) -> Store:
    """Return a place of its own on the run's storage."""
    return open_store(f"{config.run.dir.rstrip('/')}/{SCRATCH}", config.storage)


def embedding(config: Config, budget: float = SECONDS) -> tuple[Numbers, NDArray[np.float32]]:
    """Measure the gallery's rate; return it, and embeddings to go on with. One archive is the least that can be
    measured of archives.

    Raises:
        ConfigError, ModelError, RunError, StorageError: as the stage.
    """
    from hyperface.models.loading import load_recognizer

    recognizer = load_recognizer(config.recognizer)
    chunks = source.plan_chunks(config.embed, config.storage)
    warm = gallery.embed_chunk(chunks[0], config, recognizer)  # what is compiled or allocated once is not timed
    faces, began = list(warm), time.perf_counter()
    timed = 0
    for chunk in chunks[1:] or chunks:
        more = gallery.embed_chunk(chunk, config, recognizer)
        faces, timed = faces + more, timed + len(more)
        if time.perf_counter() - began > budget:
            break
    rate = timed / (time.perf_counter() - began)
    sound = gallery.assemble(faces, REFERENCES).embeddings
    dim, size = recognizer.embedding_dim, recognizer.image_size
    return {"embed_images_per_second": rate, "embedding_dim": dim, "image_size": size}, sound.vectors_ND


def pairs(config: Config, dim: int, device: str, budget: float = SECONDS) -> Numbers:
    """Measure FLOP/s of a step of the packing and of a search, on random rows: as many as take a second, or are
    planned."""
    import torch

    from hyperface.packing import kernel, solver, sphere
    from hyperface.packing.partition import one_process

    wanted = replace(config.packing, alpha=0.0, batch_identities=0, frozen="", protected="", steps=2)
    kinds, found = set[Kind](("float32", config.packing.precision)), Numbers()
    n, largest = min(1024, config.packing.num_identities), min(LARGEST, config.packing.num_identities)
    while True:
        rows = torch.from_numpy(sphere.random_points(n, dim, 0)).to(device)
        problem = solver.Problem(replace(wanted, num_identities=n), 0)

        def step(kind: Kind, problem: solver.Problem = problem, rows: torch.Tensor = rows) -> None:
            chosen = replace(problem, config=replace(problem.config, precision=kind))
            state = solver.fresh_state(rows, chosen.config, 1.0)
            float(solver.local_step(state, chosen, one_process(len(rows))).loss)  # waits for the device

        taken = {kind: seconds_of(partial(step, kind)) for kind in kinds}
        if max(taken.values()) > budget / 10 or n == largest:
            break
        n = min(2 * n, largest)
    sized = replace(wanted, num_identities=n)
    for kind, seconds in taken.items():
        found[f"pair_flops_{kind}"] = packing.step_flop(sized, Rows(dim, 0)) / seconds
    search = seconds_of(lambda: float(kernel.nearest(rows, rows)[0].sum()))
    return found | {"search_flops": 2.0 * dim * n * n / search}


def seconds_of(call: Callable[[], object], repeats: int = 3) -> float:
    """Return the median time of a call, after one that warms up."""
    call()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


@dataclass
class Watch:
    """Notes the time when a shard has been drawn, and what is left is to make its files and to upload them."""

    entered: float = 0.0
    left: float = 0.0

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        self.entered = time.perf_counter()
        yield
        self.left = time.perf_counter()


def drawing(
    config: Config,
    faces_ND: NDArray[np.float32],
    budget: float = SECONDS,
    loaded: Callable[[], None] = lambda: None,
) -> Numbers:
    """Draw, gate and commit a shard of a small packing to the scratch place, where it stays, and measure it.

    Args:
        loaded: function that is called when the models are there.

    Raises:
        ConfigError, EmbeddingError, ModelError, RunError, StorageError: as the stage; not one image passed the gate.
    """
    import torch

    from hyperface.models.loading import load_models
    from hyperface.synthesis.shards import shard_maker

    models, scratch = load_models(config), scratch_of(config)
    loaded()
    small, references = _small(config, faces_ND)
    maker = shard_maker(Run(scratch, small), references, models)
    size, n = maker.drawing.batch_size, len(references.vectors_Nd)
    batch_Bd = references.vectors_Nd[np.arange(size) % n]
    seconds = seconds_of(lambda: models.generator.generate(batch_Bd, list(range(size))), 1)
    rows = min(Plan.of(config).rows(0), size * max(1, int(1.5 * budget / seconds)))
    plan = Plan(config.run.seed, n, -(-rows // n), rows)
    maker = replace(maker, dataset=replace(maker.dataset, plan=plan))
    if models.judge:
        maker.make_anchors(0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    watch = Watch()
    made = maker.make(0, watch.turn())
    tail = time.perf_counter() - watch.left
    if not made["rows"]:
        raise RunError(f"calibration: not one of {rows} images passed the gate; loosen synthesis.min_*")
    found = {"images_per_second": rows / (watch.left - watch.entered)}
    if torch.cuda.is_available():
        found["draw_gpu_bytes"] = float(torch.cuda.max_memory_allocated())
    return found | _stored(config, scratch, tail)


def _small(config: Config, faces_ND: NDArray[np.float32]) -> tuple[Config, "References"]:
    """Return references packed of some faces as the run's will be of all, and the configuration that fits them."""
    from hyperface.packing.single import pack
    from hyperface.synthesis.shards import References

    n, planned_rows = min(len(faces_ND), config.packing.num_identities), Plan.of(config).rows(0)
    packing = replace(config.packing, num_identities=n, first_identity=0, start="gallery", batch_identities=0)
    packing = replace(packing, frozen="", protected="", restarts=1, polish=False)
    packed = pack(faces_ND, packing, seed=config.run.seed, gallery_GD=faces_ND)
    synthesis = replace(config.synthesis, images_per_identity=-(-planned_rows // n), images_per_shard=planned_rows)
    return replace(config, packing=packing, synthesis=synthesis), References(packed.references_ND, "")


def _stored(config: Config, scratch: Store, tail: float) -> Numbers:
    """Measure the shard in the scratch place, which took `tail` seconds from its last image to its marker."""
    marker = Marker.from_bytes(scratch.read(marker_file(0)), marker_file(0))
    found = {f"{kind}_bytes": scratch.size(shard_file(kind, 0)) or 0 for kind in config.dataset.formats}
    numbers = {name: size / marker.rows for name, size in found.items()}
    name = marker.files[0].name
    images = from_bytes(scratch.read(name), name)
    numbers["jpeg_bytes"] = sum(map(len, images.jpegs)) / marker.rows
    numbers["request_seconds"] = seconds_of(lambda: scratch.put("request", b"0"), 5)
    payload = os.urandom(min(PAYLOAD, config.synthesis.images_per_shard * 100_000))
    numbers["upload_bytes_per_second"] = len(payload) / seconds_of(lambda: scratch.put("payload", payload), 1)
    numbers["read_bytes_per_second"] = marker.files[0].bytes / seconds_of(lambda: from_bytes(scratch.read(name), name))
    known = sum(found.values()) / numbers["upload_bytes_per_second"] + 6 * numbers["request_seconds"]
    numbers["encode_seconds"] = max(0.0, tail - known) / marker.rows
    return numbers


def reporting(config: Config, dim: int) -> Numbers:
    """Measure what the report does with the shard in the scratch place, in the process of the driver."""
    from hyperface.audit import separation
    from hyperface.audit.image_embeddings import rows_of
    from hyperface.models.loading import load_judge, load_recognizer
    from hyperface.packing.sphere import random_points

    began = time.perf_counter()
    recognizer, judge = load_recognizer(config.recognizer), load_judge(config)
    start = time.perf_counter() - began
    scratch, kind = scratch_of(config), config.dataset.formats[0]
    jpegs = from_bytes(scratch.read(shard_file(kind, 0)), shard_file(kind, 0)).jpegs
    rows_of(jpegs[:8], recognizer, str(scratch))
    began = time.perf_counter()
    for network in filter(None, (recognizer, judge)):
        rows_of(jpegs, network, str(scratch))
    rate = len(jpegs) / (time.perf_counter() - began)
    rows = random_points(4096, dim, 0)
    comparing = seconds_of(lambda: separation.of_references(rows), 1)
    flops = 2.0 * dim * len(rows) * (len(rows) - 1) / 2 / comparing
    return {"report_start_seconds": start, "report_images_per_second": rate, "compare_flops": flops}


def sweep(config: Config) -> None:
    """Leave nothing in the scratch place."""
    scratch = scratch_of(config)
    for name in scratch.list():
        scratch.delete(name)
