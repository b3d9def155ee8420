"""A run and its listing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hyperface.config import Config
from hyperface.errors import RunError
from hyperface.run import Run
from hyperface.storage import Store

Made = TypeVar("Made")


@dataclass
class Seen:
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
            return self.run.get_json(name)
        except RunError as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # removed since the listing
                self.troubles.append(str(error))
            return {}

    def made_of(self, name: str, make: Callable[[], Made]) -> Made | None:
        """What is made of a record; None where that cannot be done, which is a trouble."""
        try:
            return make()
        except RunError as error:
            self.troubles.append(str(error))
            return None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"has no {error}" if isinstance(error, KeyError) else str(error)
            advice = "delete it, and run its job again"
            self.troubles.append(f"{self.store.uri(name)}: is damaged or of another version ({what}); {advice}")
            return None

    def rows(self, stage: str) -> list[dict[str, Any]]:
        """The record of a stage, oldest row first."""
        if stage not in self.kept:
            self.kept[stage] = []
            try:
                self.kept[stage] = self.run.records(stage)
            except RunError as error:
                self.troubles.append(str(error))
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

    def recorded(self) -> list[str]:
        """Stages that have a record."""
        found = (name for name in self.listing if name.startswith("records/") and name.endswith(".jsonl"))
        return [name.removeprefix("records/").removesuffix(".jsonl") for name in found]
