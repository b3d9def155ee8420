"""A run directory: the name of everything in it, its configuration, provenance and records."""

import json
import os
import platform
import pwd
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from hyperface import claims
from hyperface import config as configuration
from hyperface.config import Config
from hyperface.errors import ConfigError, RunError
from hyperface.reading_json import from_json
from hyperface.storage import PROBE, Store, open_store
from hyperface.storage.walk import hidden

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
FINGERPRINT = "dataset/fingerprint.json"
DATA_CARD = "dataset/README.md"
SEPARATION = "evaluation/separation.json"
RECOGNITION = "recognition"
GENERATOR = "generator"
NETWORKS = {"train": "backbone.safetensors", "train_generator": "generator.safetensors"}
"""{section: file}, in the folder of a training that is finished."""
VERIFICATION = "evaluation/verification"
AUDIT = "evaluation/audit.json"
AUDIT_FACES = "evaluation/audit_faces.json"
EXPERIMENT = "experiment/summary.json"
AUDIT_EMBEDDINGS = "evaluation/embeddings"
REPORT = "report/index.html"
EMBEDDED, PACKED = "records/embed.json", "records/packing.json"
"""Records of the values that decided a stage's result: {section: {key: value}}."""
MADE_BY = {EMBEDDED: GALLERY, PACKED: REFERENCES, PACKING_SUMMARY: REFERENCES, FINGERPRINT: FINGERPRINT}
"""{record of a stage: what it made}"""
PACKING_KEYS = ("num_identities", "separation", "alpha", "start", "precision")
"""Keys of the configuration that the summary of a packing repeats."""
FILES = {CONFIG, PROVENANCE, LEASE}
DECLARED = FILES | {"begun.json", "training.json"}
"""Last parts of the names of files that say what is about to be made, in a run and in the runs of an experiment."""
FOLDERS = {
    *("gallery", "packing", "synthesis", DATASET, "evaluation", RECOGNITION, GENERATOR, "experiment", "report"),
    *("records", "plan", "tensorboard"),
}
BEFORE = {"plan/": {"rates.json", "scratch/"}, "gallery/": {"embeddings.parquet"}}
"""{folder: names in it} of what may be there before a run begins. Its other folders may be there when they are empty: a
link to another disk."""
ANOTHER = "configuration (resume with the recorded values, or choose another run.dir)"

PACKAGES = ("hyperface", "torch", "ray", "diffusers", "transformers", "numpy", "pyarrow", "s3fs", "onnxruntime")


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
    driver: str = ""
    """The id of the driver that this is for, as `claims.py` knows it; empty where nothing is driven."""

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
        """Record what decides a result, or compare it with what is recorded. A stage calls it before it writes.

        Args:
            wanted: {section: {key: value}}.
            what: is decided, and how to begin another one, for the message.
            begun: whether something was made of it already; if not, it is replaced, unless another driver may be at it.

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
                recorded = _flat(from_json(before))
            except ValueError as error:
                raise RunError(
                    f"{self.store.uri(name)}: cannot be read ({error}); put it back, or delete it"
                ) from error
            return configuration.differences(recorded, _flat(json.loads(data)))

        claims.bind(self.store, self.driver, name, data, changed, lambda: begun, what)

    def refuse_replaced(self) -> None:
        """Raise ConfigError where the recorded configuration is another one by now; names each key.

        One that was deleted under a driver is written again.
        """
        if self.driver and not self.store.exists(CONFIG):
            self.store.put_new(CONFIG, configuration.to_yaml(self.config).encode())
            print(f"{self.store.uri(CONFIG)}: was gone, and is written again", flush=True)
        changed = _changed(self.store, self.config) if self.store.exists(CONFIG) else []
        if changed:
            told = "; ".join(changed)
            raise ConfigError(
                f"{self.store.uri(CONFIG)}: was replaced since this job began, by another {ANOTHER}: {told}"
            )

    def put_json(self, name: str, value: Any) -> None:
        self.store.put(name, to_json(value))

    def get_json(self, name: str) -> dict[str, Any]:
        """A record that `put_json` wrote. Raises RunError: it is missing, cut or something else; names it."""
        return get_json(self.store, name)


def _flat(record: Any) -> dict[str, Any]:
    """{"section.key": value} of a record that has {section: {key: value}}, or is flat already. Raises ValueError."""
    if not isinstance(record, dict):
        raise ValueError("must be an object")
    parts = [
        ({f"{k}.{key}": v for key, v in value.items()} if isinstance(value, dict) and "." not in k else {k: value})
        for k, value in record.items()
    ]
    return {key: value for part in parts for key, value in part.items()}


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
        ConfigError: as `run_store` and `enter`.
        StorageError: as `run_store`.
    """
    return enter(run_store(config), config)


def run_store(config: Config) -> Store:
    """The store of a run, as a job that writes is to use it.

    Raises:
        ConfigError: there is no run in it, but something else.
        StorageError: nothing answers within seconds, or it cannot be read or written.
    """
    store = open_store(config.run.dir, config.storage)
    store.reach()
    if not store.exists(CONFIG):
        _refuse_foreign(store, config.storage)
    return store.prepared()


def _refuse_foreign(store: Store, storage: configuration.StorageConfig) -> None:
    """Raise ConfigError unless a run may begin here. Nothing is touched.

    A folder with the name of one of a run's shows a run only beside a run's provenance, which its first driver writes
    before any folder, or where it holds no more than what waits for a run.
    """
    was_run = store.exists(PROVENANCE)

    def is_ours(name: str) -> bool:
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


def is_of_a_run(name: str) -> bool:
    """Whether something directly in a run may have this name; those of folders end with a slash."""
    return name in FILES or name.removesuffix("/") in FOLDERS or name.startswith((PROBE, claims.CLAIM))


def enter(store: Store, config: Config, driver: str = "") -> Run:
    """Record a configuration in a store, or compare it with what is recorded; the run.

    Args:
        store: as `run_store` gives it.
        driver: its id, by `claims.driver`; empty: none.

    Raises:
        ConfigError: the directory holds results of a configuration that writes other bytes, or a driver is at work with
            one; names the keys.
    """
    is_there, data = store.exists(CONFIG), configuration.to_yaml(config).encode()
    if not is_there:
        _refuse_made(store, config)

    def changed(before: bytes) -> list[str]:
        return _changed(store, config)

    if claims.bind(store, driver, CONFIG, data, changed, lambda: _is_begun(store), ANOTHER) and is_there:
        store.put(PROVENANCE, to_json(provenance(config)))
    elif not store.exists(PROVENANCE):
        store.put_new(PROVENANCE, to_json(provenance(config)))
    if is_there:
        _refuse_made(store, config)
        store.sweep(is_of_a_run)
    return Run(store, config, driver)


def refuse_another(store: Store, config: Config) -> None:
    """Look whether `enter` would refuse a configuration, and raise its ConfigError; nothing is written."""
    if store.exists(CONFIG) and (lines := _changed(store, config)):
        claims.refuse(store, "", CONFIG, lines, lambda: _is_begun(store), ANOTHER)
    _refuse_made(store, config)


def _refuse_made(store: Store, config: Config) -> None:
    if lines := list(made_by_another(store, config)):
        raise ConfigError("\n  ".join([f"{store}: was made by another {ANOTHER}:", *lines]))


def made_by_another(store: Store, config: Config) -> Iterator[str]:
    """A line for each stage whose own record tells another configuration than this one; it names the keys."""
    wanted = json.loads(to_json(configuration.identity(config)))
    for name, made in MADE_BY.items():
        if not (store.exists(name) and store.exists(made)):
            continue
        try:
            recorded = _flat(from_json(store.read(name)))
        except ValueError:
            if name != FINGERPRINT:  # whose reader says it
                yield f"{store.uri(name)}: is no JSON; put it back, or delete it"
            continue
        if name == PACKING_SUMMARY:  # its other numbers are results
            recorded = {f"packing.{key}": recorded[key] for key in PACKING_KEYS if key in recorded}
        both = recorded.keys() & wanted.keys()
        if lines := configuration.differences({k: recorded[k] for k in both}, {k: wanted[k] for k in both}):
            yield f"{store.uri(name)}: made by another configuration: {'; '.join(lines)}"


def _changed(store: Store, config: Config) -> list[str]:
    """A line for each key in which the recorded configuration writes other bytes than this one."""
    return configuration.differences(*map(configuration.identity, (recorded_config(store), config)))


def _is_begun(store: Store) -> bool:
    """Whether anything is there that a configuration decided: a first attempt that failed binds nobody to its typos."""
    decided_by_none = ("records/", "plan/", "tensorboard/", PROBE, claims.CLAIM)
    made = (name for name in store.list() if not name.startswith(decided_by_none))
    return any(name.rpartition("/")[2] not in DECLARED for name in made)


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
