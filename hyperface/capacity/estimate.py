"""The time, storage and memory of each stage of a run: every figure with the rule that it follows from.

Stages follow one another, as in jobs.pipeline. An actor of the gallery or the synthesis works at the measured rate of
one, whatever their number; a worker of the packing computes its equal share.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hyperface.capacity import packing
from hyperface.capacity.packing import Rows
from hyperface.capacity.rates import Rates, settings_of
from hyperface.config import Config, Format, differences
from hyperface.dataset.commit import check_size
from hyperface.dataset.dataset import READERS
from hyperface.dataset.plan import Plan
from hyperface.errors import ConfigError
from hyperface.faces.source import FACES_PER_CHUNK
from hyperface.models.loading import needs_files

STAGES = ("embed", "packing", "synthesis", "report")
REQUESTS = 6
"""Number of small requests of a shard besides its data: note, looks and marker (`dataset/commit.py`)."""
SHORT, LONG = 10.0, 3600.0
"""Seconds of a shard below which its start and commit weigh, and above which a lost actor costs much."""
FACE_OBJECTS = 600
"""Bytes of a face's Python objects, beside its numbers, while the driver assembles the gallery."""
GB = 1e9


@dataclass(frozen=True)
class Figure:
    name: str
    """Name of the figure, STAGE.WHAT."""
    value: float
    unit: str
    """Unit of the value: `s`, `B`, `h`, `` for a count, or `price`."""
    rule: str


@dataclass(frozen=True)
class Estimate:
    figures: tuple[Figure, ...]
    warnings: tuple[str, ...]

    def __getitem__(self, name: str) -> float:
        return next(figure.value for figure in self.figures if figure.name == name)


@dataclass(frozen=True)
class Planned:
    """The values that the figures of all stages are made from."""

    config: Config
    rates: Rates
    rows: Rows

    @property
    def n(self) -> int:
        return self.config.packing.num_identities

    @property
    def references_bytes(self) -> float:
        return float(self.n * self.rows.dim * packing.FLOAT)

    def actors(self, wanted: int, gpus_each: float, pieces: int) -> tuple[int, str]:
        """Return (how many actors work at a time, why so many)."""
        plan = self.config.plan
        room = int(plan.gpus / gpus_each) if gpus_each else plan.cpus
        there = f"plan.gpus={plan.gpus} / {gpus_each:g} each" if gpus_each else f"plan.cpus={plan.cpus}"
        count = max(1, min(wanted or room, room, pieces))
        return count, f"{count:,} actors ({there}, {pieces:,} pieces)"


def needed(config: Config) -> list[str]:
    """Return the names of the rates that a configuration needs."""
    names = ["embedding_dim", "image_size", "driver_seconds", "embed_start_seconds", "embed_images_per_second"]
    names += ["draw_start_seconds", "images_per_second", "jpeg_bytes", "encode_seconds", "request_seconds"]
    names += [f"{kind}_bytes" for kind in config.dataset.formats]
    names += ["upload_bytes_per_second", "read_bytes_per_second", "pair_flops_float32", "search_flops"]
    if config.packing.precision == "bfloat16":
        names.append("pair_flops_bfloat16")
    return [*names, "report_start_seconds", "report_images_per_second", "compare_flops"]


def estimate(config: Config, rates: Rates, frozen: int = 0, protected: int = 0) -> Estimate:
    """Compute every figure of a run from an empty directory.

    Args:
        frozen, protected: rows of packing.frozen and packing.protected.

    Raises:
        ConfigError: a rate or a key that is needed is missing; names it.
    """
    refuse_unknown(config)
    rates.require(needed(config))
    faces = config.embed.num_faces or config.plan.num_faces
    p = Planned(config, rates, Rows(int(rates["embedding_dim"]), faces, frozen, protected))
    figures = [*_embed(p), *_packing(p), *_synthesis(p), *_report(p), *_storage(p)]
    figures += _total(p, Estimate(tuple(figures), ()))
    found = Estimate(tuple(figures), ())
    return Estimate(found.figures, tuple(_warnings(p, found)))


def refuse_unknown(config: Config) -> None:
    """Raise ConfigError, naming the key, where it is not said what is planned for."""
    if not (config.embed.num_faces or config.plan.num_faces):
        raise ConfigError(
            "plan.num_faces is needed with embed.num_faces=0 (all of embed.source): say how many there are; it is 0"
        )
    workers = config.packing.num_workers * config.packing.gpus_per_worker
    reserved = {
        "embed.gpus_per_actor": config.embed.gpus_per_actor,
        "packing.num_workers times packing.gpus_per_worker": workers,
        "synthesis.gpus_per_actor": config.synthesis.gpus_per_actor,
    }
    for key, gpus in reserved.items():
        if gpus > config.plan.gpus:
            raise ConfigError(f"plan.gpus must be at least {gpus:g}, which {key} asks for; it is {config.plan.gpus}")


def _embed(p: Planned) -> Iterator[Figure]:
    embed, faces, rate = p.config.embed, p.rows.gallery, p.rates["embed_images_per_second"]
    chunks = math.ceil(faces / FACES_PER_CHUNK)
    actors, why = p.actors(embed.num_actors, embed.gpus_per_actor, chunks)
    busiest = min(math.ceil(chunks / actors) * FACES_PER_CHUNK, faces)
    seconds = p.rates["driver_seconds"] + p.rates["embed_start_seconds"] + busiest / rate
    rule = f"start, then {faces:,} faces at {rate:,.1f}/s by each of {why}"
    yield Figure("embed.seconds", seconds, "s", rule)
    yield _gpu_hours("embed", seconds, actors * embed.gpus_per_actor)
    held = faces * (3 * p.rows.dim * packing.FLOAT + FACE_OBJECTS)
    rule = f"the driver assembles {faces:,} faces: 3 copies of {p.rows.dim} float32, and {FACE_OBJECTS} B of objects"
    yield Figure("embed.driver_memory", held, "B", rule)


def _packing(p: Planned) -> Iterator[Figure]:
    config, dim, workers = p.config.packing, p.rows.dim, p.config.packing.num_workers
    size = f"{packing.moved(config):,} of {p.n:,} identities x {dim}"
    flop, cold = packing.step_flop(config, p.rows), packing.cold_steps(config, dim)
    step = {kind: flop / workers / p.rates[f"pair_flops_{kind}"] for kind in _kinds(p)}
    rule = f"{size}, {config.separation}: {flop:.3g} FLOP over {workers:,} workers at {_speeds(p)} each"
    yield Figure("packing.step_seconds", step[config.precision], "s", rule)
    wires = {kind: packing.wire(config, dim, workers, _size(kind)) for kind in _kinds(p)}
    wire = wires[config.precision]
    parts = f"all-gather {wire.gather / GB:.3g} GB, reduce-scatter {wire.reduce / GB:.3g} GB"
    rule = f"each worker sends and receives, {size}: {parts}, maxima {wire.maxima / GB:.3g} GB"
    yield Figure("packing.network_bytes", wire.bytes, "B", rule)
    counts = {config.precision: config.steps - (cold if config.precision == "bfloat16" else 0)}
    counts |= {"float32": cold} if config.precision == "bfloat16" else {}
    computing = sum(counts[kind] * step[kind] for kind in counts)
    speed = p.config.plan.network_gb_per_s * GB
    sending = sum(counts[kind] * wires[kind].bytes for kind in counts) / speed if speed and workers > 1 else 0.0
    around = packing.searches(config) * packing.search_flop(config, p.rows)
    around += packing.looks(config) * packing.look_flop(config, p.rows)
    searching = around / workers / p.rates["search_flops"]
    drawing = packing.draw_flop(config, p.rows) / workers / p.rates["search_flops"]
    start = p.rates["draw_start_seconds"] if workers > 1 or config.gpus_per_worker else 0.0
    seconds = start + drawing + computing + sending + searching
    net = f"network {sending:,.0f} s" if speed or workers == 1 else "network not counted (plan.network_gb_per_s=0)"
    rule = f"start {start:,.0f} s, " + (f"drawing identities {drawing:,.0f} s, " if drawing else "")
    rule += f"{config.steps:,} steps {computing:,.0f} s, {net}, "
    rule += (
        f"{packing.searches(config):,} searches, {packing.looks(config)} exact looks at all pairs {searching:,.0f} s"
    )
    yield Figure("packing.seconds", seconds, "s", rule)
    yield _gpu_hours("packing", seconds, workers * config.gpus_per_worker)
    memory = packing.device_memory(config, p.rows, workers)
    rule = f"rows of the problem {memory.problem / GB:.3g} GB whole on each worker, own rows and optimiser "
    rule += f"{memory.state / GB:.3g} GB, a step or look {memory.step / GB:.3g} GB"
    yield Figure("packing.device_memory", memory.bytes, "B", rule)
    rule = f"{packing.HOST_COPIES:g} float32 copies of the larger of gallery and references, while its problem is posed"
    yield Figure("packing.host_memory", packing.host_memory(config, p.rows), "B", rule)


def _synthesis(p: Planned) -> Iterator[Figure]:
    config, plan, rates = p.config.synthesis, Plan.of(p.config), p.rates
    yield Figure("synthesis.images", plan.num_images, "", f"{p.n:,} identities x {config.images_per_identity:,}")
    rule = f"{config.images_per_shard:,} images in each, synthesis.images_per_shard"
    yield Figure("synthesis.shards", plan.num_shards, "", rule)
    per_image = sum(_bytes(p).values())
    rows = plan.rows(0)
    files = " + ".join(f"{kind} {value:,.0f} B" for kind, value in _bytes(p).items())
    yield Figure("synthesis.shard_bytes", rows * per_image, "B", f"{rows:,} images x ({files})")
    drawing = rows / rates["images_per_second"]
    rule = f"{rows:,} images at {rates['images_per_second']:,.3g}/s by one actor"
    yield Figure("synthesis.shard_seconds", drawing, "s", rule)
    commit = rows * (rates["encode_seconds"] + per_image / rates["upload_bytes_per_second"])
    commit += REQUESTS * rates["request_seconds"]
    yield Figure(
        "synthesis.commit_seconds", commit, "s", "encode, hash, upload and mark a shard, while the next is drawn"
    )
    actors, why = p.actors(config.num_actors, config.gpus_per_actor, plan.num_shards)
    waves = math.ceil(plan.num_shards / actors)
    start = rates["draw_start_seconds"] + p.references_bytes / rates["read_bytes_per_second"]
    anchors = 0.0
    if config.judged:
        anchors = rates["draw_start_seconds"] + p.n / actors / rates["images_per_second"]
    busiest = min(waves * rows, plan.num_images) / rows  # with one actor the last shard may be a short one
    listing = 2 * plan.num_shards / READERS * rates["request_seconds"]
    seconds = start + anchors + busiest * max(drawing, commit) + min(drawing, commit) + listing
    rule = f"start {start:,.0f} s, {waves:,} shards one after another on each of {why}"
    rule += f", markers {listing:,.0f} s" + (f", anchors {anchors:,.0f} s" if anchors else "")
    yield Figure("synthesis.seconds", seconds, "s", rule)
    yield _gpu_hours("synthesis", seconds, actors * config.gpus_per_actor)
    held = 3 * p.references_bytes + 2 * rows * (per_image + rates["jpeg_bytes"] + 4 * p.rows.dim)
    rule = f"one actor, without its models: 3 copies of {p.n:,} references as it starts, two shards"
    yield Figure("synthesis.actor_memory", held, "B", rule)


def _report(p: Planned) -> Iterator[Figure]:
    plan, rates = Plan.of(p.config), p.rates
    measured = min(p.config.report.max_images, plan.num_images)
    kind = p.config.dataset.formats[0]
    read = plan.num_images * _bytes(p)[kind]
    reading = read / rates["read_bytes_per_second"] + measured / rates["report_images_per_second"]
    pairs = p.n * (p.n - 1) + p.n * p.rows.gallery  # before and after, each pair once; each reference with the gallery
    comparing = 2.0 * p.rows.dim * pairs / rates["compare_flops"]
    start = rates["report_start_seconds"]
    rule = (
        f"in one process: start {start:,.0f} s, {read / GB:.3g} GB of {kind} shards, of which {measured:,} images are "
    )
    rule += f"measured, {reading:,.0f} s; all pairs of references {comparing:,.0f} s"
    yield Figure("report.seconds", start + reading + comparing, "s", rule)


def _storage(p: Planned) -> Iterator[Figure]:
    plan, dim = Plan.of(p.config), p.rows.dim
    dataset = plan.num_images * sum(_bytes(p).values())
    drawn = p.n if p.config.packing.steps and packing.draw_flop(p.config.packing, p.rows) else 0
    tables = (p.n + drawn + p.rows.gallery) * dim * packing.FLOAT
    checkpoint = p.n * (3 * dim * packing.FLOAT + 28)
    rule = f"{plan.num_images:,} images in {' and '.join(p.config.dataset.formats)}, if the gate refuses none for good"
    yield Figure("storage.dataset_bytes", dataset, "B", rule)
    rule = f"gallery {p.rows.gallery:,} and references {p.n:,} x {dim} float32"
    rule += ", and the start that was drawn" if drawn else ""
    yield Figure("storage.tables_bytes", tables, "B", rule)
    rule = "while packing: rows, best rows and moments, twice when one checkpoint follows another"
    yield Figure("storage.checkpoint_bytes", 2 * checkpoint, "B", rule)


def _total(p: Planned, found: Estimate) -> Iterator[Figure]:
    plan, seconds = p.config.plan, sum(found[f"{stage}.seconds"] for stage in STAGES)
    rule = "embed, packing, synthesis and report, one after another"
    if needs_files(p.config):
        tried = p.rates["draw_start_seconds"]
        seconds, rule = seconds + tried, f"{rule}, after {tried:,.0f} s to try the models of the synthesis"
    yield Figure("total.seconds", seconds, "s", rule)
    used = sum(found[f"{stage}.gpu_hours"] for stage in STAGES[:-1])
    yield Figure("total.gpu_hours", used, "h", "GPU-hours that stages reserve")
    paid = plan.gpus * seconds / 3600
    yield Figure("total.paid_gpu_hours", paid, "h", f"plan.gpus={plan.gpus:,} held from the first stage to the last")
    if plan.gpu_hour_price:
        rule = f"{paid:,.1f} GPU-hours x plan.gpu_hour_price={plan.gpu_hour_price:g}; storage and network not counted"
        yield Figure("total.cost", paid * plan.gpu_hour_price, "price", rule)


def _warnings(p: Planned, found: Estimate) -> Iterator[str]:
    config, rates = p.config, p.rates
    if rates.settings:
        changed = differences(rates.settings, {k: v for k, v in settings_of(config).items() if k in rates.settings})
        if changed:
            yield "rates were measured with other settings (measured -> planned): " + "; ".join(changed)
    try:
        check_size(config.synthesis.images_per_shard, int(rates["image_size"]), p.rows.dim)
    except ConfigError as error:
        yield str(error)
    seconds, key = found["synthesis.shard_seconds"], "synthesis.images_per_shard"
    if seconds < SHORT:
        yield f"a shard takes {seconds:.1f} s: below {SHORT:.0f} s its start and commit weigh; raise {key}"
    if seconds > LONG:
        yield f"a shard takes {seconds / 3600:.1f} h, which a lost actor costs: lower {key}"
    if found["synthesis.commit_seconds"] > seconds:
        yield "the upload of a shard takes longer than its images: the storage decides the wall time"
    if config.plan.gpus and not any(found[f"{stage}.gpu_hours"] for stage in STAGES[:-1]):
        keys = "synthesis.gpus_per_actor, packing.gpus_per_worker or embed.gpus_per_actor"
        yield f"plan.gpus={config.plan.gpus:,} are paid for and no stage reserves one; set {keys}"
    yield from _shared(config)
    sharing = max(1, int(1 / config.synthesis.gpus_per_actor)) if config.synthesis.gpus_per_actor else 1
    drawing = f"{sharing} synthesis actors that share a GPU need" if sharing > 1 else "a synthesis actor needs"
    memory = {"a packing worker needs": found["packing.device_memory"] if config.packing.gpus_per_worker else 0.0}
    memory[f"as measured, {drawing}"] = sharing * rates.numbers.get("draw_gpu_bytes", 0.0)
    for who, size in memory.items():
        if size > config.plan.gpu_memory_gb * GB > 0:
            yield f"{who} {size / GB:.1f} GB of a GPU; plan.gpu_memory_gb={config.plan.gpu_memory_gb:g}"
    if found["report.seconds"] > found["total.seconds"] / 2:
        yield "the report takes more than half of the time, in one process while all GPUs wait: run the stages as jobs"


def _shared(config: Config) -> Iterator[str]:
    """Yield cautions about what a rate of one actor alone, or of one start, does not show."""
    shares = {"embed.gpus_per_actor": config.embed.gpus_per_actor}
    for key, gpus in (shares | {"synthesis.gpus_per_actor": config.synthesis.gpus_per_actor}).items():
        if 0 < gpus < 1:
            slower = f"{int(1 / gpus)} actors that share a GPU may each be so many times slower"
            yield f"{key}={gpus:g}: rates were measured by one actor alone on its GPU; {slower}"
    if config.packing.restarts > 1 or config.packing.polish:
        yield "packing.restarts and packing.polish are for small problems, and not counted: all restarts take all steps"


def _gpu_hours(stage: str, seconds: float, gpus: float) -> Figure:
    return Figure(f"{stage}.gpu_hours", gpus * seconds / 3600, "h", f"{gpus:g} GPUs reserved")


def _bytes(p: Planned) -> dict[Format, float]:
    return {kind: p.rates[f"{kind}_bytes"] for kind in p.config.dataset.formats}


def _kinds(p: Planned) -> list[str]:
    """Return the kinds of products in the steps."""
    return ["float32"] if p.config.packing.precision == "float32" else ["bfloat16", "float32"]


def _size(kind: str) -> int:
    return 2 if kind == "bfloat16" else packing.FLOAT


def _speeds(p: Planned) -> str:
    return ", ".join(f"{p.rates[f'pair_flops_{kind}']:.3g} FLOP/s in {kind}" for kind in _kinds(p))
