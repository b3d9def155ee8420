"""The command that goes on with a run."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from hyperface.config import RECIPES, StorageConfig, TrainConfig, flat
from hyperface.dataset.marker import RETRY
from hyperface.status.seen import Seen
from hyperface.status.shards import Shards
from hyperface.status.stages import Stage, begun_with, verifications


def next_command(seen: Seen, stages: Sequence[Stage], shards: Shards, reached: StorageConfig) -> str:
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
            return command(job, RETRY)
        if job in ("embed", "pack", "synthesize") and "embed" in states:
            return command("pipeline")
        if job == "evaluate":
            return command(job, *_as_asked(seen))
        return command(job, *(_as_begun(seen, job, name) if name else ()))
    return command("verify", "--deep") if "synthesize" in states else ""


def _as_begun(seen: Seen, section: str, name: str) -> list[str]:
    """The keys by which a training goes on as what it was begun as, where the run's configuration says other ones."""
    found, usual = begun_with(seen, section, name), asdict(getattr(seen.config, section))
    begun: dict[str, Any] = {**found[0]} if found else {}
    recipe = begun.get("recipe")
    if recipe != usual.get("recipe"):  # given as a key, it puts its own defaults in place of what the run recorded
        usual = {**asdict(TrainConfig()), **RECIPES.get(str(recipe), {}), "recipe": None}
    changed = [f"{section}.{key}={_word(value)}" for key, value in begun.items() if usual.get(key) != value]
    return [f"{section}.name={name}", *sorted(changed)]


def _as_asked(seen: Seen) -> list[str]:
    """The keys of the first verification that is not whole, where the run's configuration says other ones."""
    keys = next((each.keys for each in verifications(seen) if each.made < len(each.asked)), {})
    usual = flat(seen.config)
    return [f"{key}={_word(value)}" for key, value in keys.items() if usual.get(key) != value]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
