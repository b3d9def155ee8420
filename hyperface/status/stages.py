"""The state of each stage of a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hyperface.experiment import comparison as experiment
from hyperface.run import names, shapes
from hyperface.run.shapes import (
    BatchRecipe,
    GeneratorTraining,
    Index,
    PackingMarker,
    PackingSummary,
    Training,
    TrainingMarker,
    TrainingSummary,
    VerificationAsked,
)
from hyperface.status.seen import Seen
from hyperface.status.shards import Shards

State = Literal["done", "partly", "not begun"]


@dataclass(frozen=True)
class Stage:
    name: str
    """Name of its job, and the training's own after it: `embed`, `train student`."""
    state: State
    told: str = ""
    """State in words: how far it is, or what came out."""
    done: int | None = None
    """Units of `total` that are done: shards, steps or pieces; None where nothing is counted."""
    total: int | None = None


def stages_of(seen: Seen, shards: Shards) -> list[Stage]:
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


def _embed(seen: Seen) -> Stage:
    rows = seen.rows("embed")
    faces = next((f"{row['faces']} faces" for row in reversed(rows) if "faces" in row), "")
    return Stage("embed", "done", faces) if names.GALLERY in seen.listing else Stage("embed", "not begun")


def _pack(seen: Seen) -> Stage:
    steps = seen.config.packing.steps
    if {names.REFERENCES, names.PACKING_SUMMARY} <= seen.listing.keys():
        found = seen.json(names.PACKING_SUMMARY, PackingSummary)
        told = f"{found['num_identities']} identities{_number(found, 'max_cosine')}" if found else ""
        return Stage("pack", "done", told)
    if names.REFERENCES in seen.listing and names.GALLERY not in seen.listing:
        return Stage("pack", "done", "references from elsewhere")
    marker = seen.newest(names.CHECKPOINTS, PackingMarker)
    if marker is None:
        return Stage("pack", "not begun")
    told = f"step {marker['step']} of {steps}{_last(marker['progress'], 'max_cosine')}"
    return Stage("pack", "partly", told, marker["step"], steps)


def _synthesize(seen: Seen, shards: Shards) -> Stage:
    if names.INDEX in seen.listing and shards.done == shards.total:
        index = seen.json(names.INDEX, Index)
        told = f"{index['images']} images in {shards.total} shards" if index else f"{shards.total} shards"
        return Stage("synthesize", "done", told, shards.done, shards.total)
    told = f"{shards.done} of {shards.total} shards"
    told += f", {len(shards.quarantined)} quarantined" if shards.quarantined else ""
    told += ", no index yet" if shards.done == shards.total else ""
    state: State = "partly" if seen.has(names.DATASET) else "not begun"
    return Stage("synthesize", state, told, shards.done, shards.total)


def _report(seen: Seen) -> Stage:
    return Stage("report", "done" if names.REPORT in seen.listing else "not begun")


def _trainings(seen: Seen, section: Literal["train", "train_generator"]) -> Iterator[Stage]:
    root = names.RECOGNITION if section == "train" else names.GENERATOR
    for name in seen.folders(root):
        folder = f"{root}/{name}"
        if f"{folder}/summary.json" in seen.listing:
            summary = seen.json(f"{folder}/summary.json", TrainingSummary)
            if (network := f"{folder}/{names.NETWORKS[section]}") not in seen.listing:
                fix = f"restore it, or train under another {section}.name"
                seen.troubles.append(f"{seen.store.uri(network)}: is missing although its summary is there; {fix}")
            told = f"{summary['steps']} steps{_number(summary, 'loss')}" if summary else ""
            yield Stage(f"{section} {name}", "done", told)
            continue
        begun = begun_with(seen, section, name)
        if begun is None:
            continue
        recipe, images = begun
        total = images // recipe["batch_size"] * recipe["epochs"]
        marker = seen.newest(f"{folder}/checkpoints", TrainingMarker)
        step, told = (marker["step"], _last(marker["progress"]["history"], "loss")) if marker else (0, "")
        yield Stage(f"{section} {name}", "partly", f"step {step} of {total}{told}", step, total)


def begun_with(seen: Seen, section: str, name: str) -> tuple[BatchRecipe, int] | None:
    """(recipe, number of images) of a training; None where its record cannot be read."""
    if section == "train":
        found = seen.json(f"{names.RECOGNITION}/{name}/training.json", Training)
        return found and (found["train"], found["data"]["images"])
    of_generator = seen.json(f"{names.GENERATOR}/{name}/training.json", GeneratorTraining)
    return of_generator and (of_generator["train_generator"], of_generator["data"]["images"])


def _last(history: Sequence[Mapping[str, Any]], key: str) -> str:
    """A number of the last recorded step, in words."""
    return _number(history[-1], key) if history else ""


def _evaluations(seen: Seen) -> Iterator[Stage]:
    every = list(verifications(seen))
    if done := [each.label for each in every if each.made == len(each.asked)]:
        yield Stage("evaluate", "done", ", ".join(done))
    for each in every:
        if each.made < len(each.asked):
            told = f"{each.label}, {each.made} of {len(each.asked)} sets"
            yield Stage("evaluate", "partly", told, each.made, len(each.asked))


@dataclass(frozen=True)
class Verification:
    """The verification of one model."""

    label: str
    asked: list[str]
    """Sets that it was asked for last."""
    made: int
    """Number of these sets that are measured."""
    keys: dict[str, Any]
    """Keys of the configuration by which it was asked for."""


def verifications(seen: Seen) -> Iterator[Verification]:
    """Yield the verifications that were begun, by their labels."""
    for name in sorted(name for name in seen.listing if name.startswith(f"{names.VERIFICATION}/")):
        if record := seen.json(name, shapes.Verification):
            asked = record.get("asked") or VerificationAsked(sets=[], keys={})
            label = name.removeprefix(f"{names.VERIFICATION}/").removesuffix(".json")
            yield Verification(label, asked["sets"], len(record["sets"].keys() & set(asked["sets"])), asked["keys"])


def _audits(seen: Seen) -> Iterator[Stage]:
    if {names.AUDIT, names.AUDIT_FACES} <= seen.listing.keys():
        yield Stage("audit", "done")
    elif seen.has(names.AUDIT_EMBEDDINGS):
        yield Stage("audit", "partly", f"{sum(n.startswith(names.AUDIT_EMBEDDINGS) for n in seen.listing)} files")


def _experiment(seen: Seen) -> Stage:
    every = experiment.pieces(seen.config)
    made = sum(piece.result in seen.listing for piece in every)
    state: State = "done" if names.EXPERIMENT in seen.listing and made == len(every) else "partly"
    return Stage("experiment", state, f"{made} of {len(every)} pieces", made, len(every))


def _number(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    return f", {key.replace('_', ' ')} {value:.3f}" if isinstance(value, float) else ""
