"""A run and its listing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hyperface.config import Config
from hyperface.errors import RunError
from hyperface.run import Run
from hyperface.run.records import Shape
from hyperface.run.shapes import Row
from hyperface.storage import Store


@dataclass
class Seen:
    """A run and its listing; what cannot be read is a trouble, not an end."""

    run: Run
    listing: Mapping[str, int]
    troubles: list[str] = field(default_factory=list)
    kept: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return self.run.store

    @property
    def config(self) -> Config:
        return self.run.config

    def json(self, name: str, shape: type[Shape]) -> Shape | None:
        """A small record; None where there is none, or one that cannot be read, which is a trouble."""
        if name not in self.listing:
            return None
        try:
            return self.run.shaped(name, shape)
        except RunError as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # removed since the listing
                self.troubles.append(str(error))
            return None

    def rows(self, stage: str) -> list[Row]:
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

    def newest(self, root: str, shape: type[Shape]) -> Shape | None:
        """Read the marker of the newest checkpoint; None where `json` gives None."""
        whole = [name for name in self.listing if name.startswith(f"{root}/step-") and name.endswith("/marker.json")]
        return self.json(max(whole), shape) if whole else None

    def has(self, root: str) -> bool:
        return any(name.startswith(f"{root}/") for name in self.listing)

    def recorded(self) -> list[str]:
        """Stages that have a record."""
        found = (name for name in self.listing if name.startswith("records/") and name.endswith(".jsonl"))
        return [name.removeprefix("records/").removesuffix(".jsonl") for name in found]
