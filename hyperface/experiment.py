"""Which datasets the experiment compares, and what comes out: plain data, without the stages that make it.

An arm is one way to choose identities. Every arm gets as many identities and images as the others, the same student
from scratch and the same test sets; a repeat changes every seed.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hyperface.config import Config, PackingConfig
from hyperface.seeds import seed_of

ARMS = "experiment/arms"
COLUMNS = ("easy", "pose", "light", "hard", "mean")
"""Of the table: the toy world's test sets, and the mean over them."""


@dataclass(frozen=True)
class Arm:
    """One way to choose the identities of a dataset."""

    name: str
    gallery: Literal["", "diverse", "biased"]
    """What the identities come from; empty: from no gallery."""
    packing: PackingConfig | None
    """None: the renderer's own identities, which no embedding stands between: the upper bound."""
    label: str


@dataclass(frozen=True)
class Piece:
    """A repeat of an arm."""

    arm: Arm
    repeat: int

    @property
    def folder(self) -> str:
        """Of the piece's run, inside the experiment's."""
        return f"{ARMS}/{self.arm.name}/repeat-{self.repeat}"

    @property
    def result(self) -> str:
        """Written last; a piece that has it is done."""
        return f"{self.folder}/result.json"


def arms(config: Config) -> list[Arm]:
    """In the order of the table: the bound, the two ways without a gallery's help, then each gallery's."""
    packing, found = config.packing, []
    found.append(Arm("rendered", "", None, "rendered identities (upper bound)"))
    uniform = replace(packing, start="random", alpha=0.0, steps=0)
    found.append(Arm("uniform", "", uniform, "uniform on the sphere"))
    for gallery in ("diverse", "biased"):
        unpacked = replace(packing, start="gallery", steps=0)
        found.append(Arm(f"{gallery}-unpacked", gallery, unpacked, "gallery, not optimised"))
        for steps in config.experiment.steps:
            for alpha in config.experiment.alphas:
                label = f"HyperFace, alpha {alpha:g}, {steps} steps"
                packed = replace(packing, alpha=alpha, steps=steps)
                found.append(Arm(f"{gallery}-alpha-{alpha:g}-steps-{steps}", gallery, packed, label))
        for objective in config.experiment.objectives:
            label = f"HyperFace, {objective.replace('_', ' ')}, alpha {packing.alpha:g}, {packing.steps} steps"
            found.append(Arm(f"{gallery}-{objective}", gallery, replace(packing, separation=objective), label))
    return found


def pieces(config: Config) -> list[Piece]:
    """Repeat after repeat, so that an experiment that is stopped early has whole repeats."""
    return [Piece(arm, repeat) for repeat in range(config.experiment.seeds) for arm in arms(config)]


def piece_config(config: Config, piece: Piece, directory: str) -> Config:
    """The configuration of a piece's own run in `directory`: one process, seeds of its own, no gate.

    A gate would take images from the arms it finds worse, and every arm must have as many as the others.
    """
    spread = config.experiment.biased_spread if piece.arm.gallery == "biased" else config.embed.identity_spread
    seed = seed_of("repeat", config.run.seed, piece.repeat)
    return replace(
        config,
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
        packing=replace(piece.arm.packing or config.packing, num_workers=1, gpus_per_worker=0.0),
        train=replace(config.train, seed=seed, num_workers=1, gpus_per_worker=0.0),
    )


def table(all_arms: Sequence[Arm], results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per arm: mean and standard deviation over the repeats of every number that the results hold.

    Args:
        results: {"arm": name, "repeat": number, "accuracy": {set: share, "mean": share}, "identity": {name: number}}.
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
        rows.append({"arm": arm.name, "gallery": arm.gallery, "label": arm.label, "repeats": len(repeats), **numbers})
    return rows


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation; of one value there is no deviation, and none where a value is missing."""
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return {"mean": None, "deviation": None, "values": list(values)}
    deviation = statistics.stdev(there) if len(there) > 1 else None
    return {"mean": statistics.fmean(there), "deviation": deviation, "values": there}


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table as text: accuracies in percent, mean and standard deviation over the repeats."""
    sets = [name for name in COLUMNS if rows and name in rows[0]["accuracy"]]
    head = f"{'gallery':8} {'identities':38}" + "".join(f"{name:>15}" for name in sets)
    return [head] + [
        f"{row['gallery'] or '-':8} {row['label']:38}" + "".join(f"{_percent(row['accuracy'][s]):>15}" for s in sets)
        for row in rows
    ]


def _percent(spread: Mapping[str, Any]) -> str:
    deviation = "" if spread["deviation"] is None else f" ± {100 * spread['deviation']:.2f}"
    return f"{100 * spread['mean']:.2f}{deviation}"
