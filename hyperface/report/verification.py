"""`jobs.evaluate` recorded how well recognisers tell people apart; beside it stands what others published."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from hyperface.report import plots
from hyperface.report.formats import percent, whole
from hyperface.run.shapes import Trained, Verification, VerifiedSet
from hyperface.verification.toy_sets import TOY_SETS
from hyperface.verification.verification import FARS

BENCHMARKS = {
    "lfw": ("LFW", 6000),
    "cfpfp": ("CFP-FP", 7000),
    "cplfw": ("CPLFW", 6000),
    "agedb30": ("AgeDB-30", 6000),
    "calfw": ("CALFW", 6000),
}
"""{name of a file, in small letters and digits: (what it is called, its number of pairs)}"""
TOY_NOTE = "Drawings of people on whom nobody was trained; no number of photographs can be held beside these."
TONES = ("tone-a", "tone-b", "tone-c", "tone-muted")


@dataclass(frozen=True)
class Published:
    """Others published that they reached this."""

    dataset: str
    source: str
    accuracy: Mapping[str, float]
    """{benchmark: accuracy}, empty where only the mean was published"""
    mean: float


PUBLISHED = (
    Published(
        "HyperFace, 10k identities × 50",
        "arXiv 2411.08470, IResNet-50",
        {"lfw": 0.9850, "cfpfp": 0.8883, "cplfw": 0.8423, "agedb30": 0.8653, "calfw": 0.8940},
        0.8950,
    ),
    Published("Vec2Face, HSFace10K", "arXiv 2409.02979", {}, 0.9200),
    Published("Vec2Face, HSFace300K", "arXiv 2409.02979", {}, 0.9352),
    Published("CASIA-WebFace, real faces", "arXiv 2409.02979", {}, 0.9479),
)


@dataclass(frozen=True)
class Measured:
    """A recogniser was measured on a set; where a number is None, `reasons` may say why."""

    source: str
    pairs: int
    impostors: int
    accuracy: float | None
    deviation: float | None
    equal_error: float | None
    tar: dict[str, float | None]
    reasons: dict[str, str]
    """{name of the number, or false accept rate: why there is none}"""
    far_T: list[float]
    """The measurable part of the curve begins where one of the impostors is accepted."""
    tar_T: list[float]

    @property
    def unmeasured(self) -> dict[str, list[str]]:
        """{reason: the false accept rates that have no number for it}"""
        reasons: dict[str, list[str]] = {}
        for far in reversed(FARS):
            if self.tar[far] is None:
                reasons.setdefault(self.reasons[far], []).append(far)
        return reasons


@dataclass(frozen=True)
class Verified:
    """A recogniser was evaluated on these sets."""

    record: str
    label: str
    what: str
    order: int
    sets: dict[str, Measured]
    """{key of the benchmark, or name of any other set: what was measured}"""

    @property
    def mean(self) -> float | None:
        """The mean is that of the accuracies on all benchmarks; there is none where one is missing."""
        known = [a for key in BENCHMARKS if key in self.sets and (a := self.sets[key].accuracy) is not None]
        return sum(known) / len(known) if len(known) == len(BENCHMARKS) else None


@dataclass(frozen=True)
class Accuracies:
    """A table shows recognisers by sets, with published rows and a mean where the sets are benchmarks."""

    caption: str
    note: str
    sets: dict[str, str]
    """{set: what it is called}"""
    published: Sequence[Published] = ()


@dataclass(frozen=True)
class Roc:
    """A plot shows the curves of one set."""

    title: str
    svg: str
    measured: Measured
    impostors: int
    models: list[Verified]


@dataclass(frozen=True)
class Verifications:
    """`templates/verification.html` shows all of this."""

    models: list[Verified]
    tables: list[Accuracies]
    rates: list[tuple[str, Verified, Measured]]
    """(name of the set, who was measured, what)"""
    fars: list[str]
    """Something was measured at these false accept rates."""
    curves: list[Roc]


def view(records: Mapping[str, Verification]) -> Verifications | None:
    """A reader sees this of `evaluation/verification/`; there is nothing where nobody was evaluated."""
    models = [evaluated(name, record) for name, record in records.items()]
    models = sorted((model for model in models if model.sets), key=lambda model: (model.order, model.label))
    if not models:
        return None
    benchmarks, others, toy = _sorted_sets(models)
    photographs = [*benchmarks, *others]
    tables = (
        Accuracies("Benchmarks", _benchmarks_note(models, benchmarks), _called(benchmarks), PUBLISHED),
        Accuracies("Other sets", "No published numbers are held here for these.", _called(others)),
        Accuracies("Sets of the toy world", TOY_NOTE, _called(toy)),
    )
    names = _called([*photographs, *toy])
    by_hardness = [*_hardest_first(models, photographs), *_hardest_first(models, toy)]
    rates = [(names[n], model, model.sets[n]) for n in names for model in models if n in model.sets]
    return Verifications(
        models=models,
        tables=[table for table in tables if table.sets],
        rates=rates,
        fars=[far for far in reversed(FARS) if any(measured.tar[far] is not None for _, _, measured in rates)],
        curves=[roc for name in by_hardness if (roc := _roc(models, name, names[name]))],
    )


def evaluated(name: str, record: Verification) -> Verified:
    """A record of `evaluation/verification/` is read as the page needs it."""
    model, sets = record["model"], record["sets"]
    label = PurePosixPath(name).stem
    measured: dict[str, Measured] = {}
    for given, found in sorted(sets.items()):
        one = _measured(found)
        key = benchmark_of(given, one)
        measured[given if not key or key in measured else key] = one
    match model["kind"]:
        case "trained":
            return Verified(name, label, _student(model["training"]), 0, measured)
        case "recognizer":
            return Verified(name, "recogniser", "the network whose sphere was packed", 1, measured)
        case "judge":
            return Verified(name, "judge", "independent network, only measures", 2, measured)
        case "onnx":
            return Verified(name, label, f"ONNX file, SHA-256 {model['fingerprint'][:12]}…", 3, measured)


def _student(training: Trained) -> str:
    train, data = training["train"], training["data"]
    backbone = train["backbone"].replace("iresnet", "IResNet-").replace("small", "small network")
    attention = " with squeeze-excitation" if train["squeeze_excitation"] else ""
    head = {"arcface": "ArcFace", "cosface": "CosFace", "adaface": "AdaFace"}.get(train["head"], train["head"])
    on = f"{whole(data['images'])} images of {whole(data['classes'])} identities"
    return f"trained here: {backbone}{attention}, {head}, {train['epochs']} epochs on {on}; recipe {train['recipe']}"


def _measured(found: VerifiedSet) -> Measured:
    roc, impostors = found["roc"], found["impostors"]
    points = [*zip(roc["far"], roc["tar"], strict=True)] if roc else []
    least = 1 / max(1, impostors)
    # A rate that was reached at a lower false accept rate is reached at the lowest measurable one, too.
    start = max((tar for far, tar in points if far <= least * (1 + 1e-9)), default=None)
    later = [(far, tar) for far, tar in points if far > least * (1 + 1e-9)]
    drawn = [(least, start), *later] if start is not None else later
    return Measured(
        source=found["source"],
        pairs=found["pairs"],
        impostors=impostors,
        accuracy=found["accuracy"],
        deviation=found["accuracy_std"],
        equal_error=found["eer"],
        tar={far: found["tar_at_far"][far]["tar"] for far in FARS},
        reasons={
            **found["reasons"],
            **{far: at["reason"] for far, at in found["tar_at_far"].items() if at["tar"] is None},
        },
        far_T=[far for far, _ in drawn],
        tar_T=[tar for _, tar in drawn],
    )


def benchmark_of(name: str, measured: Measured) -> str:
    """A set's name, however it is written, becomes its key in BENCHMARKS; that of any other becomes empty."""
    key = re.sub("[^a-z0-9]", "", name.lower()).removesuffix("bin")
    return key if key in BENCHMARKS and not _is_toy(measured) else ""


def _is_toy(measured: Measured) -> bool:
    return measured.source.startswith("toy world, held-out set ")


def _sorted_sets(models: Sequence[Verified]) -> tuple[list[str], list[str], list[str]]:
    """(benchmarks, others, sets of the toy world), in the order of their table"""
    found = {name: measured for model in models for name, measured in model.sets.items()}
    toy = [name for name in TOY_SETS if name in found and _is_toy(found[name])]
    benchmarks = [key for key in BENCHMARKS if key in found]
    return benchmarks, sorted(set(found) - set(toy) - set(benchmarks)), toy


def _called(names: Sequence[str]) -> dict[str, str]:
    """{set: its usual name}"""
    known = {"ijbb": "IJB-B", "ijbc": "IJB-C"} | {key: name for key, (name, _) in BENCHMARKS.items()}
    return {name: known.get(name, name) for name in names}


def _benchmarks_note(models: Sequence[Verified], benchmarks: Sequence[str]) -> str:
    note = (
        "Sets are known by the names of their files. Networks and recipes of the published rows may differ from yours, "
        "and so may the number of images."
    )
    for key in benchmarks:
        called, pairs = BENCHMARKS[key]
        for other in sorted({model.sets[key].pairs for model in models if key in model.sets} - {pairs}):
            note += f" {called} has {whole(pairs)} pairs, and here {whole(other)}: not comparable."
    return note


def _hardest_first(models: Sequence[Verified], sets: Sequence[str]) -> list[str]:
    """The hardest set has the largest mean of the recognisers' equal error rates."""

    def error(name: str) -> float:
        rates = [model.sets[name].equal_error for model in models if name in model.sets]
        known = [rate for rate in rates if rate is not None]
        return sum(known) / len(known) if known else 0.0

    return sorted(sets, key=lambda name: (-error(name), name))


def _roc(models: Sequence[Verified], name: str, called: str) -> Roc | None:
    drawn = [model for model in models if name in model.sets and model.sets[name].far_T]
    if not drawn:
        return None
    styles = [f"{tone}{kind}" for kind in ("", " dashed") for tone in TONES]
    lines = [
        plots.Curve(model.label, style, model.sets[name].far_T, model.sets[name].tar_T)
        for model, style in zip(drawn, styles, strict=False)
    ]
    errors = "; ".join(f"{m.label}: equal error rate {percent(m.sets[name].equal_error)} percent" for m in drawn)
    title = f"True accept rate by false accept rate on {called}. {errors}"
    svg = plots.rates(title, lines, "false accept rate", "true accept rate")
    impostors = max(model.sets[name].impostors for model in drawn)
    return Roc(f"ROC: {called}", svg, drawn[0].sets[name], impostors, drawn)
