"""Beginning a run directory, opening it again, or refusing it."""

import json
import os
import pwd
from collections.abc import Iterator, Sequence

from hyperface import config as configuration
from hyperface.config import Config
from hyperface.errors import ConfigError, RunError
from hyperface.reading.json_text import from_json
from hyperface.run import claims
from hyperface.run.names import (
    ANOTHER,
    BEFORE,
    CONFIG,
    DECIDED_BY,
    DECLARED,
    FILES,
    FINGERPRINT,
    FOLDERS,
    MADE_BY,
    PACKING_KEYS,
    PACKING_SUMMARY,
    PROVENANCE,
)
from hyperface.run.provenance import provenance
from hyperface.run.records import flat, shaped, to_json
from hyperface.run.run import Run, changed_keys, recorded_config
from hyperface.run.shapes import Provenance
from hyperface.storage import PROBE, Store, open_store
from hyperface.storage.walk import hidden


def open_run(config: Config) -> Run:
    """Create the run directory, or open it for the same configuration.

    Raises:
        ConfigError: as `run_store` and `enter`.
        StorageError: as `run_store`.
    """
    return enter(run_store(config), config)


def run_store(config: Config) -> Store:
    """Return the store of a run, as a job that writes is to use it.

    Raises:
        ConfigError: there is no run in it, but something else.
        StorageError: nothing answers within seconds, or it cannot be read or written.
    """
    store = open_store(config.run.dir, config.storage)
    store.reach()
    if not store.exists(CONFIG):
        _refuse_foreign(store, config.storage)
    if odd := [name for name in store.names() if name in FOLDERS]:
        rule = "must be a folder, or a link to one that is there; mount what it leads to, or take it away"
        raise ConfigError(f"run.dir: {store.uri(odd[0])} {rule}")
    return store.prepared()


def _refuse_foreign(store: Store, storage: configuration.StorageConfig) -> None:
    """Raise ConfigError unless a run may begin here. Nothing is touched.

    A folder with the name of one of a run's shows a run only beside a run's provenance, which its first driver writes
    before any folder, or where it holds no more than what waits for a run.
    """
    was_run = _was_run(store)

    def is_ours(name: str) -> bool:
        if name == PROVENANCE:
            return was_run
        if was_run or not name.endswith("/"):
            return is_of_a_run(name)
        return is_of_a_run(name) and BEFORE.get(name, set()).issuperset(
            open_store(store.uri(name[:-1]), storage).names()
        )

    fix = "give a folder that is empty or does not exist"
    homes = {os.path.realpath(home) for home in ("/", os.path.expanduser("~"), pwd.getpwuid(os.getuid()).pw_dir)}
    if os.path.realpath(store.url) in homes:
        raise ConfigError(f"run.dir: {store} is a home directory or that of the system, and holds no run; {fix}")
    if foreign := [name for name in store.names() if not hidden(name) and not is_ours(name)]:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise ConfigError(f"run.dir: {store} holds no run (no {CONFIG}), but {', '.join(foreign[:3])}{more}; {fix}")


def _was_run(store: Store) -> bool:
    """Return whether there is a run's provenance; others have files of that name too."""
    try:
        shaped(store, PROVENANCE, Provenance)
    except RunError:
        return False
    return True


def is_of_a_run(name: str) -> bool:
    """Return whether something directly in a run may have this name; those of folders end with a slash."""
    is_folder = name.endswith("/") and name[:-1] in FOLDERS
    return is_folder or name in FILES or name.startswith(PROBE) or claims.is_claim(name)


def enter(store: Store, config: Config, driver: str = "") -> Run:
    """Record a configuration in a store, or compare it with what is recorded; return the run.

    Args:
        store: as `run_store` gives it.
        driver: id of the driver, by `claims.driver`; empty: none.

    Raises:
        ConfigError: the directory holds results of a configuration that writes other bytes, or a driver is at work with
            one; names the keys.
    """
    is_there, data = store.exists(CONFIG), configuration.to_yaml(config).encode()
    if not is_there:
        _refuse_made(store, config)

    def changed(before: bytes) -> list[str]:
        return changed_keys(store, config)

    if claims.bind(store, driver, CONFIG, data, changed, lambda lines: _is_begun(store, lines), ANOTHER) and is_there:
        store.put(PROVENANCE, to_json(provenance(config)))
    elif not store.exists(PROVENANCE):
        store.put_new(PROVENANCE, to_json(provenance(config)))
    if is_there:
        _refuse_made(store, config)
        store.sweep(is_of_a_run)
    return Run(store, config, driver)


def refuse_another(store: Store, config: Config) -> None:
    """Look whether `enter` would refuse a configuration, and raise its ConfigError; nothing is written."""
    if store.exists(CONFIG) and (lines := changed_keys(store, config)):
        claims.refuse(store, "", CONFIG, lines, lambda lines: _is_begun(store, lines), ANOTHER)
    _refuse_made(store, config)


def _refuse_made(store: Store, config: Config) -> None:
    if lines := list(made_by_another(store, config)):
        raise ConfigError("\n  ".join([f"{store}: was made by another {ANOTHER}:", *lines]))


def made_by_another(store: Store, config: Config) -> Iterator[str]:
    """Yield a line for each stage whose own record has another configuration than this one; it names the keys."""
    wanted = json.loads(to_json(configuration.identity(config)))
    for name, made in MADE_BY.items():
        if not (store.exists(name) and store.exists(made)):
            continue
        try:
            recorded = flat(from_json(store.read(name)))
        except ValueError:
            if name != FINGERPRINT:  # whose reader says it
                yield f"{store.uri(name)}: is no JSON; put it back, or delete it"
            continue
        if name == PACKING_SUMMARY:  # its other numbers are results
            recorded = {f"packing.{key}": recorded[key] for key in PACKING_KEYS if key in recorded}
        both = recorded.keys() & wanted.keys()
        if lines := configuration.differences({k: recorded[k] for k in both}, {k: wanted[k] for k in both}):
            yield f"{store.uri(name)}: made by another configuration: {'; '.join(lines)}"


def _is_begun(store: Store, lines: Sequence[str]) -> bool:
    """Return whether anything is there that a changed key decided: nobody is bound to the typos of an attempt that
    failed.

    Args:
        lines: `section.key: ...` of each changed key.
    """
    sections = {line.partition(".")[0] for line in lines}
    made = (name for name in store.list() if name.rpartition("/")[2] not in DECLARED)
    folders = {name.partition("/")[0] for name in made if "/" in name}
    return any(sections & DECIDED_BY.get(folder, sections) for folder in folders)


def existing_run(directory: str, storage: configuration.StorageConfig | None = None) -> Run:
    """Open a run for reading, with the configuration recorded in it.

    Raises:
        ConfigError: there is no run.
        StorageError: nothing answers within seconds.
    """
    store = open_store(directory, storage)
    store.reach()
    if not store.exists(CONFIG):
        raise ConfigError(f"{store}: holds no run (no {CONFIG}); give the run.dir of a finished or interrupted job")
    return Run(store, recorded_config(store))
