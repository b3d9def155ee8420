"""What a run directory says of itself: what is done, what fails, and the command that goes on.

One listing and a few small files: shards are counted by the names of their markers, none of which is read.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from hyperface import experiment
from hyperface import run as names
from hyperface.config import RECIPES, Config, StorageConfig, TrainConfig
from hyperface.dataset import quarantine
from hyperface.dataset.layout import marker_file, pending_file
from hyperface.dataset.survey import glance, planned, planned_formats
from hyperface.run import Run
from hyperface.storage import Store

State = Literal["done", "partly", "not begun"]
COMPLETE, FAILING, UNFINISHED = 0, 1, 3
"""Exit codes of `jobs.status`; 2 is bad input, as for every job."""


@dataclass(frozen=True)
class Stage:
    name: str
    """Of its job, and the training's own after it: `embed`, `train student`."""
    state: State
    told: str = ""
    """How far it is, or what came out."""
    done: int | None = None
    """Units of `total` that are done: shards, steps or pieces; None where nothing is counted."""
    total: int | None = None


@dataclass(frozen=True)
class Status:
    run: str
    stages: tuple[Stage, ...]
    """In the order of the pipeline, then what was begun besides."""
    quarantined: dict[int, str]
    """Why a shard is left alone, by shard."""
    failing: tuple[str, ...]
    """What else somebody has to look at, a line each."""
    rejects: int
    """Images that no attempt brought through the gate, as far as recorded."""
    pending: int
    """Notes of shards whose files are being written, or whose worker died over it."""
    driver: dict[str, Any]
    """Who drives the run, where its storage needs a lease; else empty, since nobody has to say so."""
    last: dict[str, dict[str, Any]]
    """The last row of each record, by stage."""
    next: str
    """The command to give; empty where nothing is left to do."""

    @property
    def exit_code(self) -> int:
        if self.failing or self.quarantined:
            return FAILING
        return COMPLETE if all(stage.state == "done" for stage in self.stages) else UNFINISHED


def status(run: Run, reached: StorageConfig | None = None) -> Status:
    """Look at a run.

    Args:
        reached: how its storage is reached, for the next command; None: as by default.

    Raises:
        StorageError: the storage cannot be listed or read.
    """
    seen = _Seen(run, run.store.list())
    shards = _shards(seen)
    stages = _stages(seen, shards)
    rows = seen.rows("synthesis")
    return Status(
        run=str(run),
        stages=tuple(stages),
        quarantined=shards.quarantined,
        failing=(*_failing(seen, shards, rows), *seen.troubles),
        rejects=_rejects(seen, shards, rows),
        pending=shards.pending,
        driver=seen.json(names.LEASE),
        last={stage: rows[-1] for stage in _recorded(seen) if (rows := seen.rows(stage))},
        next=_next(seen, stages, shards, reached or StorageConfig()),
    )


@dataclass
class _Seen:
    """A run and its listing; what cannot be read is a trouble, not an end."""

    run: Run
    listing: Mapping[str, int]
    troubles: list[str] = field(default_factory=list)
    kept: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return self.run.store

    @property
    def config(self) -> Config:
        return self.run.config

    def json(self, name: str) -> dict[str, Any]:
        """A small record; empty where there is none."""
        if name not in self.listing:
            return {}
        try:
            found = json.loads(self.store.read(name))
            if isinstance(found, dict):
                return found
        except FileNotFoundError:  # removed since the listing
            return {}
        except ValueError:
            pass
        self.troubles.append(f"{self.store.uri(name)}: is no JSON; delete it, and run its job again")
        return {}

    def rows(self, stage: str) -> list[dict[str, Any]]:
        """The record of a stage, oldest row first."""
        name = names.record_name(stage)
        if stage not in self.kept:
            lines = self.store.read(name).splitlines() if name in self.listing else []
            self.kept[stage] = []
            try:
                self.kept[stage] = [row for row in map(json.loads, lines) if isinstance(row, dict)]
            except ValueError:
                self.troubles.append(f"{self.store.uri(name)}: has a line that is no JSON; delete that line")
        return self.kept[stage]

    def folders(self, root: str) -> list[str]:
        """Names of the folders directly under one."""
        return sorted({name.split("/")[1] for name in self.listing if name.startswith(f"{root}/") and "/" in name[:-1]})

    def newest(self, root: str) -> dict[str, Any]:
        """The marker of the newest checkpoint; empty where there is none."""
        whole = [name for name in self.listing if name.startswith(f"{root}/step-") and name.endswith("/marker.json")]
        return self.json(max(whole)) if whole else {}

    def has(self, root: str) -> bool:
        return any(name.startswith(f"{root}/") for name in self.listing)


@dataclass(frozen=True)
class _Shards:
    total: int
    done: int
    damaged: dict[int, str]
    """Shards whose marker is there and whose file is not."""
    quarantined: dict[int, str]
    left: set[int]
    """Neither done nor quarantined."""
    pending: int


def _shards(seen: _Seen) -> _Shards:
    plan = planned(seen.config)
    found = glance(seen.store, plan, planned_formats(seen.config), dict(seen.listing))
    pending = sum(pending_file(shard) in seen.listing for shard in found.missing)
    left = set(found.missing) - found.quarantined.keys()
    return _Shards(plan.num_shards, len(found.done), found.damaged, found.quarantined, left, pending)


def _stages(seen: _Seen, shards: _Shards) -> list[Stage]:
    """The stages of the pipeline, unless the directory is of something else; then what was begun besides."""
    trainings = [*_trainings(seen, "train"), *_trainings(seen, "train_generator")]
    if seen.has("experiment"):
        return [_experiment(seen), *trainings]
    pipeline = [_embed(seen), _pack(seen), _synthesize(seen, shards), _report(seen)]
    if pipeline[1].state == "done" and pipeline[0].state == "not begun":
        del pipeline[0]  # references from elsewhere: no gallery is needed any more
    if trainings and not any(seen.has(part) for part in ("gallery", "packing", names.DATASET)):
        pipeline = []  # the place of a training on data from elsewhere
    return [*pipeline, *trainings, *_evaluations(seen), *_audits(seen)]


def _embed(seen: _Seen) -> Stage:
    rows = seen.rows("embed")
    faces = next((f"{row['faces']} faces" for row in reversed(rows) if "faces" in row), "")
    return Stage("embed", "done", faces) if names.GALLERY in seen.listing else Stage("embed", "not begun")


def _pack(seen: _Seen) -> Stage:
    steps = seen.config.packing.steps
    if {names.REFERENCES, names.PACKING_SUMMARY} <= seen.listing.keys():
        found = seen.json(names.PACKING_SUMMARY)
        return Stage("pack", "done", f"{found.get('num_identities')} identities{_number(found, 'max_cosine')}")
    if names.REFERENCES in seen.listing and names.GALLERY not in seen.listing:
        return Stage("pack", "done", "references from elsewhere")
    marker = seen.newest(names.CHECKPOINTS)
    if marker:
        history = marker.get("progress") or [{}]
        told = f"step {marker['step']} of {steps}{_number(history[-1], 'max_cosine')}"
        return Stage("pack", "partly", told, marker["step"], steps)
    return Stage("pack", "not begun")


def _synthesize(seen: _Seen, shards: _Shards) -> Stage:
    if names.INDEX in seen.listing and shards.done == shards.total:
        index = seen.json(names.INDEX)
        told = f"{index.get('images')} images in {shards.total} shards"
        return Stage("synthesize", "done", told, shards.done, shards.total)
    told = f"{shards.done} of {shards.total} shards"
    told += f", {len(shards.quarantined)} quarantined" if shards.quarantined else ""
    told += ", no index yet" if shards.done == shards.total else ""
    state: State = "partly" if seen.has(names.DATASET) else "not begun"
    return Stage("synthesize", state, told, shards.done, shards.total)


def _report(seen: _Seen) -> Stage:
    return Stage("report", "done" if names.REPORT in seen.listing else "not begun")


def _trainings(seen: _Seen, section: Literal["train", "train_generator"]) -> Iterator[Stage]:
    root = names.RECOGNITION if section == "train" else names.GENERATOR
    for name in seen.folders(root):
        folder, begun = f"{root}/{name}", seen.json(f"{root}/{name}/training.json")
        summary = seen.json(f"{folder}/summary.json")
        if summary:
            yield Stage(f"{section} {name}", "done", f"{summary.get('steps')} steps{_number(summary, 'loss')}")
            continue
        recipe, data = begun.get(section, {}), begun.get("data", {})
        if not recipe or not data:
            continue
        total = data["images"] // recipe["batch_size"] * recipe["epochs"]
        marker = seen.newest(f"{folder}/checkpoints")
        step, history = marker.get("step", 0), marker.get("progress", {}).get("history") or [{}]
        told = f"step {step} of {total}{_number(history[-1], 'loss')}"
        yield Stage(f"{section} {name}", "partly", told, step, total)


def _evaluations(seen: _Seen) -> Iterator[Stage]:
    prefix = f"{names.VERIFICATION}/"
    found = [name.removeprefix(prefix).removesuffix(".json") for name in seen.listing if name.startswith(prefix)]
    if found:
        yield Stage("evaluate", "done", ", ".join(sorted(found)))


def _audits(seen: _Seen) -> Iterator[Stage]:
    if names.AUDIT in seen.listing:
        yield Stage("audit", "done")
    elif seen.has(names.AUDIT_EMBEDDINGS):
        yield Stage("audit", "partly", f"{sum(n.startswith(names.AUDIT_EMBEDDINGS) for n in seen.listing)} files")


def _experiment(seen: _Seen) -> Stage:
    every = experiment.pieces(seen.config)
    made = sum(piece.result in seen.listing for piece in every)
    state: State = "done" if names.EXPERIMENT in seen.listing and made == len(every) else "partly"
    return Stage("experiment", state, f"{made} of {len(every)} pieces", made, len(every))


def _number(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    return f", {key.replace('_', ' ')} {value:.3f}" if isinstance(value, float) else ""


def _failing(seen: _Seen, shards: _Shards, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Damage that names tell; shards that the last job could not make; a gallery with too many bad faces."""
    yield from (shards.damaged[shard] for shard in sorted(shards.damaged))
    failed = {row["shard"]: row["failed"] for row in rows if row.get("event") == "failed"}
    yield from (f"shard {shard}: {failed[shard]}" for shard in sorted(failed.keys() & shards.left))
    problems = [row for row in seen.rows("embed") if row.get("event") == "problem"]
    if problems and names.GALLERY not in seen.listing:
        first = f"{problems[0].get('key')}: {problems[0].get('problem')}"
        record = seen.store.uri(names.record_name("embed"))
        yield f"{len(problems)} faces could not be used, e.g. {first}; all are in {record}"


def _rejects(seen: _Seen, shards: _Shards, rows: Sequence[Mapping[str, Any]]) -> int:
    finished = [row for row in rows if row.get("event") == "finished" and "rejects" in row]
    if finished and not shards.left and not shards.quarantined:
        return int(finished[-1]["rejects"])
    made = {row["shard"]: row["rejects"] for row in rows if row.get("event") == "shard"}
    return sum(rejects for shard, rejects in made.items() if marker_file(shard) in seen.listing)


def _recorded(seen: _Seen) -> list[str]:
    found = (name for name in seen.listing if name.startswith("records/") and name.endswith(".jsonl"))
    return [name.removeprefix("records/").removesuffix(".jsonl") for name in found]


def _next(seen: _Seen, stages: Sequence[Stage], shards: _Shards, reached: StorageConfig) -> str:
    """The command that goes on: the first thing that is not done, in the order of `stages`."""
    here, usual = str(seen.store), StorageConfig()
    words = [
        f"storage.{f.name}={getattr(reached, f.name)}"
        for f in fields(reached)
        if getattr(reached, f.name) != getattr(usual, f.name)
    ]

    def command(job: str, *more: str) -> str:
        return shlex.join(["python", "-m", f"jobs.{job}", here, *more, *words])

    if shards.damaged:
        return command("synthesize", "synthesis.repair=true")
    states = {stage.name: stage.state for stage in stages}
    for stage in stages:
        if stage.state == "done":
            continue
        job, _, name = stage.name.partition(" ")
        if job == "synthesize" and shards.quarantined and not shards.left:
            return command(job, quarantine.RETRY)
        if job in ("embed", "pack", "synthesize") and "embed" in states:
            return command("pipeline")
        return command(job, *(_as_begun(seen, job, name) if name else ()))
    return command("verify", "--deep") if "synthesize" in states else ""


def _as_begun(seen: _Seen, section: str, name: str) -> list[str]:
    """The keys by which a training goes on as what it was begun as, where the run's configuration says other ones."""
    root = names.RECOGNITION if section == "train" else names.GENERATOR
    begun, usual = seen.json(f"{root}/{name}/training.json")[section], asdict(getattr(seen.config, section))
    recipe = begun.get("recipe")
    if recipe != usual.get("recipe"):  # given as a key, it puts its own defaults in place of what the run recorded
        usual = {**asdict(TrainConfig()), **RECIPES.get(recipe, {}), "recipe": None}
    changed = [f"{section}.{key}={_word(value)}" for key, value in begun.items() if usual.get(key) != value]
    return [f"{section}.name={name}", *sorted(changed)]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def lines(found: Status) -> Iterator[str]:
    """For people."""
    yield f"{'run':<24}{found.run}"
    for stage in found.stages:
        yield f"{stage.name:<24}{stage.state}{', ' if stage.told else ''}{stage.told}"
    if found.rejects:
        yield f"{'rejects':<24}{found.rejects} images that no attempt brought through the gate"
    if found.pending:
        yield f"{'pending':<24}{found.pending} shards were being written"
    if found.driver:
        who = f"process {found.driver.get('pid')} of {found.driver.get('host')}"
        yield f"{'driver':<24}{who}, seen {found.driver.get('seen')}"
    for record, row in found.last.items():
        told = ", ".join(f"{key} {value}" for key, value in row.items() if not isinstance(value, dict | list))
        yield f"{f'last of {record}':<24}{told[:160]}"
    yield from (f"{'quarantined':<24}{found.quarantined[shard]}" for shard in sorted(found.quarantined))
    yield from (f"{'failing':<24}{problem}" for problem in found.failing)
    yield f"{'next':<24}{found.next or 'nothing is left to do'}"


def to_json(found: Status) -> str:
    """For programs: every field of `Status`, and the exit code."""
    return json.dumps({**asdict(found), "exit_code": found.exit_code}, indent=1)
