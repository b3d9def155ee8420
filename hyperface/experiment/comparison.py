"""The datasets that the experiment compares, and the table of results: plain data, without the stages that make it.

An arm is one way to choose identities and to draw them, or a mixture of two. Every arm gets as many identities and
images as the others, the same student from scratch and the same test sets; a repeat changes every seed.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypedDict

from hyperface import config as configuration
from hyperface.config import Config, ExperimentConfig, GeneratorKind, PackingConfig
from hyperface.distributed.ranks import even_sizes
from hyperface.errors import ConfigError
from hyperface.reading.json_text import Rule
from hyperface.run.seeds import seed_of
from hyperface.run.shapes import SOME, Count, Number, Share, has

ARMS = "experiment/arms"
COLUMNS = ("easy", "pose", "light", "hard", "mean")
"""Columns of the table: the toy world's test sets, and the mean over them."""
IDENTITY = ("intra_cosine", "inter_cosine", "nearest_other_cosine", "equal_error_rate")
"""Numbers of the datasets, as the judge sees them."""


Gallery = Literal["", "diverse", "biased"]
"""Gallery that identities come from; empty: from no gallery."""
Kind = Literal["bound", "baseline", "hyperface", "vec2face", "mixture"]
"""Ways to choose identities: the renderer's own, not optimised, packed, sampled, or half packed and half sampled."""


class Result(TypedDict):
    """The content of result.json of a piece."""

    arm: str
    repeat: Count
    accuracy: Annotated[dict[str, Share], has(*COLUMNS)]
    identity: Annotated[dict[str, Number | None], has(*IDENTITY)]


class Repeats(TypedDict):
    """A number over the repeats of an arm; without a mean where one of them has none."""

    mean: Number | None
    deviation: Number | None
    values: list[Number | None]


class Accuracy(TypedDict):
    mean: Number
    deviation: Number | None
    values: Annotated[list[Number], SOME]


class Line(TypedDict):
    """A row of the table: an arm, and what came out of it."""

    arm: str
    gallery: Gallery
    kind: Kind
    label: str
    generator: str
    accuracy: dict[str, Accuracy]
    identity: Annotated[dict[str, Repeats], has(*IDENTITY)]


def _are_parallel(arms: Any) -> bool:
    return bool(arms) and all(arm["accuracy"].keys() == arms[0]["accuracy"].keys() for arm in arms)


class Summary(TypedDict):
    """The content of experiment/summary.json."""

    arms: Annotated[list[Line], Rule("be arms that were verified on the same sets", _are_parallel)]
    identities: Count
    images: Count
    repeats: Count
    folds: Count
    experiment: dict[str, Any]
    train: dict[str, Any]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Identities that are chosen in one way and drawn by one generator."""

    packing: PackingConfig
    generator: GeneratorKind


@dataclass(frozen=True)
class Arm:
    """One kind of dataset."""

    name: str
    gallery: Gallery
    kind: Kind
    label: str
    parts: tuple[Part, ...]
    """Parts with an equal share of the identities each. Empty: the renderer's own identities, which no embedding stands
    between: the upper bound."""

    @property
    def generator(self) -> str:
        """Name the generator of the images; of a mixture both, of the upper bound none."""
        return " + ".join(part.generator for part in self.parts)


@dataclass(frozen=True)
class Piece:
    """A repeat of an arm."""

    arm: Arm
    repeat: int

    @property
    def folder(self) -> str:
        """Return the folder of the piece's run, inside the experiment's."""
        return f"{ARMS}/{self.arm.name}/repeat-{self.repeat}"

    @property
    def result(self) -> str:
        """Return the name of the result, which is written last; a piece that has it is done."""
        return f"{self.folder}/result.json"


def arms(config: Config) -> list[Arm]:
    """Return the arms in the order of the table: the bound, what needs no gallery, then each gallery's; by generator,
    then mixtures."""
    drawn_by = list(dict.fromkeys([config.synthesis.generator, *config.experiment.generators]))
    found = [Arm("rendered", "", "bound", "rendered identities (upper bound)", ())]
    galleries: tuple[Gallery, ...] = ("", "diverse", "biased")
    for gallery in galleries:
        ways = list(_packed(config, gallery) if gallery else _without_gallery(config))
        for generator in drawn_by:
            found += [_arm(gallery, way, Part(packing, generator), drawn_by[0]) for way, packing in ways]
        if gallery and config.experiment.mixture:
            halves = Part(config.packing, drawn_by[0]), Part(_sampled(config, "pca"), drawn_by[-1])
            found.append(Arm(f"{gallery}-mixture", gallery, "mixture", "half HyperFace, half Vec2Face", halves))
    return found


def _without_gallery(config: Config) -> Iterator[tuple[tuple[str, str], PackingConfig]]:
    """Yield ((name, label), packing) of each way that needs no gallery."""
    yield ("uniform", "uniform on the sphere"), replace(config.packing, start="random", alpha=0.0, steps=0)
    if "rejection" in config.experiment.samples:
        yield ("rejection", "Vec2Face, random directions"), _sampled(config, "rejection")


def _packed(config: Config, gallery: Gallery) -> Iterator[tuple[tuple[str, str], PackingConfig]]:
    """Yield ((name, label), packing) of each way that chooses from a gallery."""
    packing = config.packing
    yield (f"{gallery}-unpacked", "gallery, not optimised"), replace(packing, start="gallery", steps=0)
    for steps in config.experiment.steps:
        for alpha in config.experiment.alphas:
            name = f"{gallery}-alpha-{alpha:g}-steps-{steps}"
            yield (name, f"HyperFace, alpha {alpha:g}, {steps} steps"), replace(packing, alpha=alpha, steps=steps)
    for objective in config.experiment.objectives:
        label = f"HyperFace, {objective.replace('_', ' ')}, alpha {packing.alpha:g}, {packing.steps} steps"
        yield (f"{gallery}-{objective}", label), replace(packing, separation=objective)
    if "pca" in config.experiment.samples:
        yield (f"{gallery}-pca", "Vec2Face, like the gallery"), _sampled(config, "pca")


def _sampled(config: Config, start: Literal["rejection", "pca"]) -> PackingConfig:
    """Return the packing that leaves Vec2Face's identities as they are sampled."""
    return replace(config.packing, start=start, alpha=0.0, steps=0)


def _arm(gallery: Gallery, way: tuple[str, str], part: Part, usual: GeneratorKind) -> Arm:
    """Return an arm, whose name has the generator where it is not the configuration's own."""
    name, label = way
    kind: Kind = "baseline" if part.packing.start in ("gallery", "random") else "vec2face"
    if part.packing.steps:
        kind = "hyperface"
    if part.generator != usual:
        name = f"{name}-{part.generator}"
    return Arm(name, gallery, kind, label, (part,))


def pieces(config: Config) -> list[Piece]:
    """Return the pieces repeat after repeat, so that an experiment that is stopped early has whole repeats."""
    return [Piece(arm, repeat) for repeat in range(config.experiment.seeds) for arm in arms(config)]


def piece_config(config: Config, piece: Piece, directory: str) -> Config:
    """Return the configuration of a piece's own run in `directory`: one process, seeds of its own, no gate.

    A gate would take images from the arms it finds worse, and every arm must have as many as the others.
    """
    spread = config.experiment.biased_spread if piece.arm.gallery == "biased" else config.embed.identity_spread
    seed = seed_of("repeat", config.run.seed, piece.repeat)
    own = replace(
        config,
        experiment=ExperimentConfig(),
        run=replace(config.run, dir=directory, seed=seed),
        embed=replace(config.embed, identity_spread=spread),
        synthesis=replace(
            config.synthesis,
            min_cosine=-1.0,
            min_judge_cosine=-1.0,
            min_sharpness=0.0,
            one_face=False,
            min_hash_distance=0,
        ),
        packing=replace(config.packing, num_workers=1, gpus_per_worker=0.0),
        train=replace(config.train, seed=seed, num_workers=1, gpus_per_worker=0.0),
    )
    return _of_part(own, piece.arm.parts[0]) if len(piece.arm.parts) == 1 else own


def _of_part(config: Config, part: Part) -> Config:
    packing = replace(part.packing, num_workers=1, gpus_per_worker=0.0)
    return replace(config, packing=packing, synthesis=replace(config.synthesis, generator=part.generator))


def part_configs(own: Config, arm: Arm) -> list[Config]:
    """Return the configurations of the runs that hold the dataset of a piece: the piece's own where there is one part,
    else one in it for each.

    Args:
        own: configuration of the piece, by `piece_config`.
    """
    if len(arm.parts) == 1:
        return [own]
    found, first = [], own.packing.first_identity
    for number, size in enumerate(even_sizes(own.packing.num_identities, len(arm.parts))):
        config = _of_part(own, arm.parts[number])
        packing = replace(config.packing, num_identities=size, first_identity=first)
        found.append(replace(config, run=replace(config.run, dir=f"{own.run.dir}/part-{number}"), packing=packing))
        first += size
    return found


def check(config: Config) -> None:
    """Raise ConfigError for an arm whose runs could not be configured so; names it, and each key and rule."""
    for piece in pieces(replace(config, experiment=replace(config.experiment, seeds=1))):
        for part in part_configs(piece_config(config, piece, config.run.dir), piece.arm):
            try:
                configuration.check(part)
            except ConfigError as error:
                raise ConfigError(f"experiment, {piece.arm.name} ({piece.arm.label}): {error}") from error


def table(all_arms: Sequence[Arm], results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per arm: mean and standard deviation over the repeats of every number that the results hold.

    Args:
        results: results of the pieces that are done.
    """
    by_arm: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_arm.setdefault(str(result["arm"]), []).append(result)
    rows = []
    for arm in all_arms:
        repeats = by_arm.get(arm.name, [])
        if not repeats:
            continue
        numbers = {
            kind: {key: _spread([repeat[kind][key] for repeat in repeats]) for key in repeats[0][kind]}
            for kind in ("accuracy", "identity")
        }
        described = {key: getattr(arm, key) for key in ("gallery", "kind", "label", "generator")}
        rows.append({"arm": arm.name, **described, "repeats": len(repeats), **numbers})
    return rows


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Return mean and sample standard deviation; of one value there is no deviation, and none where a value is
    missing."""
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return {"mean": None, "deviation": None, "values": list(values)}
    deviation = statistics.stdev(there) if len(there) > 1 else None
    return {"mean": statistics.fmean(there), "deviation": deviation, "values": there}


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table as text: accuracies in percent, mean and standard deviation over the repeats."""
    sets = [name for name in COLUMNS if rows and name in rows[0]["accuracy"]]
    head = f"{'gallery':8} {'identities':54} {'drawn by':21}" + "".join(f"{name:>15}" for name in sets)
    return [head] + [
        f"{row['gallery'] or '-':8} {row['label']:54} {row['generator'] or '-':21}"
        + "".join(f"{_percent(row['accuracy'][s]):>15}" for s in sets)
        for row in rows
    ]


def _percent(spread: Mapping[str, Any]) -> str:
    deviation = "" if spread["deviation"] is None else f" ± {100 * spread['deviation']:.2f}"
    return f"{100 * spread['mean']:.2f}{deviation}"
