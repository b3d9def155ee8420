"""A run directory: the name of everything in it, its configuration, provenance and records."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from hyperface import config as configuration
from hyperface.config import Config, ConfigError
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
        """Append rows to the stage's JSONL record."""
        lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        name = record_name(stage)
        before = self.store.read(name) if self.store.exists(name) else b""
        self.store.put(name, before + lines.encode())

    def records(self, stage: str) -> list[dict[str, Any]]:
        """All rows of the stage's record, oldest first; none when there is no record."""
        name = record_name(stage)
        if not self.store.exists(name):
            return []
        return [json.loads(line) for line in self.store.read(name).splitlines()]

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
            for each in (self.get_json(name), json.loads(text))
        )
        changed = configuration.differences(recorded, now)
        raise ConfigError(f"{self.store.uri(name)}: is of another {what}:\n  " + "\n  ".join(changed))

    def put_json(self, name: str, value: Any) -> None:
        self.store.put(name, to_json(value))

    def get_json(self, name: str) -> Any:
        return json.loads(self.store.read(name))


def to_json(value: Any) -> bytes:
    """Readable JSON; equal values give equal bytes."""
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


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
