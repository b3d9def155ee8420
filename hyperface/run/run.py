"""A run directory with its configuration: the records in it, and what decides its results."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from hyperface import config as configuration
from hyperface.config import Config
from hyperface.errors import ConfigError, RunError
from hyperface.reading.json_text import built, from_json
from hyperface.reading.one_line import one_line
from hyperface.run import claims
from hyperface.run.names import ANOTHER, CONFIG, record_name
from hyperface.run.records import Shape, flat, get_json, object_of, shaped, to_json, whole_lines
from hyperface.run.shapes import Row
from hyperface.storage import Store


@dataclass(frozen=True)
class Run:
    """A run directory with the configuration it was made with."""

    store: Store
    config: Config
    driver: str = ""
    """Id of the driver that this is for, as `run/claims.py` knows it; empty where nothing is driven."""

    def __str__(self) -> str:
        return str(self.store)

    def record(self, stage: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to the stage's JSONL record, in place of a last line that was cut."""
        lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        name = record_name(stage)
        before = self.store.read(name) if self.store.exists(name) else b""
        self.store.put(name, whole_lines(before) + lines.encode())

    def records(self, stage: str) -> list[Row]:
        """Read all whole rows of the stage's record, oldest first; none when there is no record.

        Raises:
            RunError: a line is no such row; names it.
        """
        name = record_name(stage)
        if not self.store.exists(name):
            return []
        lines, rows = whole_lines(self.store.read(name)).splitlines(), []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(cast(Row, built(Row, object_of(line), "")))
            except ValueError as error:
                where = f"{self.store.uri(name)}, line {number}"
                raise RunError(f"{where}: is no row of a stage ({one_line(error)}); delete that line") from error
        return rows

    def bind(self, name: str, wanted: Mapping[str, Mapping[str, Any]], what: str, *, begun: bool) -> None:
        """Record what decides a result, or compare it with what is recorded. A stage calls it before it writes.

        Args:
            wanted: {section: {key: value}}.
            what: words for what is decided, and how to begin another one, for the message.
            begun: returns whether something was made of it already; if not, it is replaced, unless another driver may
                be at it.

        Raises:
            ConfigError: it was begun with something else, or a driver is about to; names each key. Or as
                `refuse_replaced`.
            RunError: something was made of it, and the record is gone.
        """
        self.refuse_replaced()
        data = to_json(wanted)
        if begun and not self.store.exists(name):
            raise RunError(
                f"{self.store.uri(name)}: is gone, so nobody knows what was begun: put it back, or delete "
                f"what was made and begin another {what}"
            )

        def changed(before: bytes) -> list[str]:
            try:
                recorded = flat(from_json(before))
            except ValueError as error:
                raise RunError(
                    f"{self.store.uri(name)}: cannot be read ({error}); put it back, or delete it"
                ) from error
            return configuration.differences(recorded, flat(json.loads(data)))

        claims.bind(self.store, self.driver, name, data, changed, lambda lines: begun, what)

    def refuse_replaced(self) -> None:
        """Raise ConfigError where the recorded configuration is another one by now; names each key.

        One that was deleted under a driver is written again.
        """
        if self.driver and not self.store.exists(CONFIG):
            self.store.put_new(CONFIG, configuration.to_yaml(self.config).encode())
            print(f"{self.store.uri(CONFIG)}: was gone, and is written again", flush=True)
        changed = changed_keys(self.store, self.config) if self.store.exists(CONFIG) else []
        if changed:
            differences = "; ".join(changed)
            raise ConfigError(
                f"{self.store.uri(CONFIG)}: was replaced since this job began, by another {ANOTHER}: {differences}"
            )

    def put_json(self, name: str, value: Any) -> None:
        self.store.put(name, to_json(value))

    def get_json(self, name: str) -> dict[str, Any]:
        """Read a record that `put_json` wrote. Raises RunError: it is missing, cut or something else; names it."""
        return get_json(self.store, name)

    def shaped(self, name: str, shape: type[Shape]) -> Shape:
        """Read a record of this shape. Raises RunError as `get_json`; where it has another, it names the place in
        it."""
        return shaped(self.store, name, shape)


def recorded_config(store: Store) -> Config:
    """Read the configuration written in the run directory. Raises RunError when it cannot be read."""
    try:
        return configuration.from_yaml(store.read(CONFIG).decode())
    except ValueError as error:
        raise RunError(f"{store.uri(CONFIG)}: is not the configuration of a run ({error}); restore the file") from error


def changed_keys(store: Store, config: Config) -> list[str]:
    """Return a line for each key in which the recorded configuration writes other bytes than this one."""
    if store.read(CONFIG) == configuration.to_yaml(config).encode():  # reading what it says takes a tenth of a second
        return []
    return configuration.differences(*map(configuration.identity, (recorded_config(store), config)))
