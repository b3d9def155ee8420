"""A run directory: the name of everything in it, its configuration, provenance and records."""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from hyperface import config as configuration
from hyperface.config import Config, ConfigError
from hyperface.reading_json import from_json
from hyperface.storage import PROBE, Store, open_store

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
LEASE = "_driver.json"
GALLERY = "gallery/embeddings.parquet"
REFERENCES = "packing/references.parquet"
PACKING_SUMMARY = "packing/summary.json"
START = "packing/start.parquet"
START_SUMMARY = "packing/start.json"
CHECKPOINTS = "packing/checkpoints"
DATASET = "dataset"
DONE = "dataset/_done"
INDEX = "dataset/index.json"
DATA_CARD = "dataset/README.md"
SEPARATION = "evaluation/separation.json"
RECOGNITION = "recognition"
GENERATOR = "generator"
VERIFICATION = "evaluation/verification"
AUDIT = "evaluation/audit.json"
AUDIT_FACES = "evaluation/audit_faces.json"
EXPERIMENT = "experiment/summary.json"
AUDIT_EMBEDDINGS = "evaluation/embeddings"
REPORT = "report/index.html"

PACKAGES = ("hyperface", "torch", "ray", "diffusers", "transformers", "numpy", "pyarrow", "s3fs", "onnxruntime")


class RunError(RuntimeError):
    """A run that cannot go on. The message says what is wrong and what to do."""


class Record(dict[str, Any]):
    """An object in a record that was read. A key that it lacks is said with the record's name."""

    def __init__(self, given: Mapping[str, Any], uri: str) -> None:
        super().__init__(given)
        self.uri = uri

    def __missing__(self, key: str) -> Any:
        what = f"has no {key!a}, it is damaged or of another version"
        raise RunError(f"{self.uri}: {what}; delete it, and run its job again")


def record_name(stage: str) -> str:
    return f"records/{stage}.jsonl"


@dataclass(frozen=True)
class Run:
    """A run directory with the configuration it was made with."""

    store: Store
    config: Config

    def __str__(self) -> str:
        return str(self.store)

    def record(self, stage: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to the stage's JSONL record, in place of a last line that was cut."""
        lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        name = record_name(stage)
        before = self.store.read(name) if self.store.exists(name) else b""
        self.store.put(name, _whole_lines(before) + lines.encode())

    def records(self, stage: str) -> list[dict[str, Any]]:
        """All whole rows of the stage's record, oldest first; none when there is no record.

        Raises:
            RunError: a line is no JSON object; names it.
        """
        name = record_name(stage)
        if not self.store.exists(name):
            return []
        lines, rows = _whole_lines(self.store.read(name)).splitlines(), []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(_object(line))
            except ValueError as error:
                where = f"{self.store.uri(name)}, line {number}"
                raise RunError(f"{where}: is no JSON object ({error}); delete that line") from error
        return rows

    def bind(self, name: str, wanted: Mapping[str, Mapping[str, Any]], what: str, *, begun: bool) -> None:
        """Record what decides a result, or compare it with what is recorded.

        Args:
            wanted: {section: {key: value}}.
            what: is decided, and how to begin another one, for the message.
            begun: whether something was made of it already; if not, it is replaced.

        Raises:
            ConfigError: it was begun with something else; names each key.
        """
        text = to_json(wanted)
        if self.store.put_new(name, text) or self.store.read(name) == text:
            return
        if not begun:
            self.store.put(name, text)
            return
        recorded, now = (
            {f"{section}.{key}": value for section, part in each.items() for key, value in part.items()}
            for each in (self.get_json(name), from_json(text))
        )
        changed = configuration.differences(recorded, now)
        raise ConfigError(f"{self.store.uri(name)}: is of another {what}:\n  " + "\n  ".join(changed))

    def put_json(self, name: str, value: Any) -> None:
        self.store.put(name, to_json(value))

    def get_json(self, name: str) -> dict[str, Any]:
        """A record that `put_json` wrote. Raises RunError: it is missing, cut or something else; names it."""
        return get_json(self.store, name)


def to_json(value: Any) -> bytes:
    """Readable JSON; equal values give equal bytes."""
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def get_json(store: Store, name: str) -> dict[str, Any]:
    """As `Run.get_json`."""
    uri = store.uri(name)
    try:
        return _object(store.read(name), lambda given: Record(given, uri))
    except FileNotFoundError as error:
        raise RunError(f"{uri}: is missing; run the job that writes it again") from error
    except ValueError as error:
        raise RunError(f"{uri}: is no JSON object ({error}); delete it, and run its job again") from error


def _whole_lines(record: bytes) -> bytes:
    """The lines of a record, but a last one that was cut by whatever ended its writer: it is no row."""
    end = record.rfind(b"\n") + 1
    try:
        _object(record[end:])
    except ValueError:
        return record[:end]
    return record + b"\n"


def _object(text: bytes, made_of: Callable[[dict[str, Any]], Any] | None = None) -> dict[str, Any]:
    found = from_json(text, made_of)
    if not isinstance(found, dict):
        raise ValueError(f"it is of type {type(found).__name__}")
    return found


def open_run(config: Config) -> Run:
    """Create the run directory, or open it for the same configuration.

    Raises:
        ConfigError: the directory holds results of a configuration that writes other bytes; names the keys.
        StorageError: nothing answers within seconds, or it cannot be read or written.
    """
    run = Run(open_store(config.run.dir, config.storage).prepared(), config)
    text = configuration.to_yaml(config).encode()
    if not run.store.put_new(CONFIG, text) and refuse_another(run.store, config):
        run.store.put(CONFIG, text)
    if not run.store.exists(PROVENANCE):
        run.store.put_new(PROVENANCE, to_json(provenance(config)))
    return run


def refuse_another(store: Store, config: Config) -> bool:
    """Whether the configuration recorded in a directory is another one, which binds nobody yet.

    Raises:
        ConfigError: it writes other bytes, and something was made by it; names the keys.
    """
    recorded = configuration.identity(recorded_config(store))
    changed = configuration.differences(recorded, configuration.identity(config))
    if changed and _is_begun(store):
        advice = "resume with the recorded values, or choose another run.dir"
        raise ConfigError(f"{store}: belongs to another configuration ({advice}):\n  " + "\n  ".join(changed))
    return bool(changed)


def _is_begun(store: Store) -> bool:
    """Whether anything is there that a configuration decided: a first attempt that failed binds nobody to its typos."""
    decided_by_none = ("records/", "plan/", "tensorboard/", PROBE)
    return any(n not in (CONFIG, PROVENANCE, LEASE) and not n.startswith(decided_by_none) for n in store.list())


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


def recorded_config(store: Store) -> Config:
    """The configuration written in the run directory. Raises RunError when it cannot be read."""
    try:
        return configuration.from_yaml(store.read(CONFIG).decode())
    except ValueError as error:
        raise RunError(f"{store.uri(CONFIG)}: is not the configuration of a run ({error}); restore the file") from error


def provenance(config: Config) -> dict[str, Any]:
    """What made the run: code, packages, machine and submission."""
    return {
        "git_sha": git_sha(),
        "packages": {name: version for name in PACKAGES if (version := package_version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "submission_id": submission_id(),
        "seed": config.run.seed,
    }


def git_sha() -> str:
    """Commit of the code, `+changes` when the tree differs; HYPERFACE_GIT_SHA where Ray left .git behind."""
    given = os.environ.get("HYPERFACE_GIT_SHA")
    if given:
        return given
    here = os.path.dirname(os.path.abspath(__file__))

    def git(*arguments: Sequence[str] | str) -> str:
        done = subprocess.run(["git", "-C", here, *map(str, arguments)], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    sha = git("rev-parse", "HEAD")
    return sha and sha + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")


def submission_id() -> str:
    """The id of the Ray job this process belongs to; empty outside one."""
    described = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return str(described.get("metadata", {}).get("job_submission_id", ""))


def package_version(package: str) -> str:
    """Installed version; empty when the package is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
