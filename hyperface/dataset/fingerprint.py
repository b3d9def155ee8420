"""The values that decide the bytes of a dataset, so that a run is never continued with something else."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from hyperface import config as configuration
from hyperface.config import Config
from hyperface.errors import ConfigError, RunError
from hyperface.models.protocols import Models
from hyperface.reading.json_text import from_json
from hyperface.run.names import DATASET, FINGERPRINT, REFERENCES
from hyperface.run.records import to_json
from hyperface.storage import Store

SECTIONS = ("run.", "recognizer.", "judge.", "arc2face.", "synthesis.", "dataset.")
LAYOUT = 2
"""Version of the layout, raised when the same configuration begins to give other bytes."""
DEALING = 2
"""Version of the dealing, raised likewise where images get shares of something: kinds of noise, or targets of
attributes."""
OF_MODELS = ("recognizer", "generator", "aligner", "judge", "attributes")
"""Parts that are known once models are loaded."""
BATCH_SIZE = "batch_size"
"""Part with the images per call of the generator: as configured, or found by trial."""


def chosen(config: Config, references: str) -> dict[str, Any]:
    """Return what decides the bytes and is known without the models, {name: value}; `references` is a SHA-256 in hex.

    The identities and their numbers are in the references' file, and with its hash in here.
    """
    # Datasets that steer nothing, or are not drawn by Vec2Face, stay what they were before there were such sections.
    sections = (*SECTIONS, "control.") if config.control.steers else SECTIONS
    sections = (*sections, "vec2face.") if config.synthesis.generator == "vec2face" else sections
    keys = {key: value for key, value in configuration.identity(config).items() if key.startswith(sections)}
    dealt = config.control.steers or config.synthesis.variation == "norm_preserving"
    return {**keys, REFERENCES: references, "layout": LAYOUT, **({"dealing": DEALING} if dealt else {})}


def parts(config: Config, references: str, models: Models) -> dict[str, Any]:
    """Return everything that decides the bytes but what is found by trial, {name: value}; `references` is a SHA-256."""
    used = {"recognizer": models.recognizer.fingerprint, "generator": models.generator.fingerprint}
    used |= {"aligner": models.aligner.fingerprint} if models.aligner else {}
    used |= {"judge": models.judge.fingerprint} if models.judge else {}
    used |= {"attributes": models.attributes.fingerprint} if models.attributes else {}
    return {**chosen(config, references), **used}


def digest(of_parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the parts, in hex, which every marker carries."""
    return hashlib.sha256(to_json(of_parts)).hexdigest()


def agree(store: Store, of_parts: dict[str, Any], find_batch_size: Callable[[], int]) -> dict[str, Any]:
    """Record the parts for a new dataset, compare them for an existing one; return what is recorded.

    Args:
        find_batch_size: called for a new dataset; its result is recorded as well, and holds from then on.

    Raises:
        ConfigError: the dataset was begun with others; names each that differs.
        RunError: what it was begun with cannot be read.
    """
    before = recorded(store)
    if before is None:
        wanted = {**of_parts, BATCH_SIZE: find_batch_size()}
        if store.put_new(FINGERPRINT, to_json(wanted)):
            return wanted
        before = recorded(store) or {}  # another worker was faster, and may have found another size
    refuse_others(store, before, of_parts)
    return before


def refuse_others(store: Store, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ConfigError naming every part that is wanted now and was another.

    A key that there was not when the dataset was begun, or that is not there now, has its default: a new key must
    change nothing by it. Parts of models are compared only where the models are known.
    """
    defaults = configuration.identity(Config())
    unknown = {BATCH_SIZE, *(() if OF_MODELS[0] in now else OF_MODELS)}
    keys = now.keys() | (before.keys() - unknown)
    was, wanted = ({key: parts.get(key, defaults.get(key)) for key in keys} for parts in (before, now))
    changed = configuration.differences(was, wanted)
    if changed:
        advice = "resume with what it was begun with, or choose another run.dir"
        raise ConfigError(f"{store.uri(DATASET)}: was made with something else ({advice}):\n  " + "\n  ".join(changed))


def recorded(store: Store) -> dict[str, Any] | None:
    """Read the parts that the dataset was begun with; None before it was begun.

    Raises:
        RunError: the file is damaged.
    """
    if not store.exists(FINGERPRINT):
        return None
    try:
        found = from_json(store.read(FINGERPRINT))
        if not isinstance(found, dict) or REFERENCES not in found:
            raise ValueError(f"must be an object with {REFERENCES}")
    except ValueError as error:
        advice = "put it back, or choose another run.dir"
        raise RunError(f"{store.uri(FINGERPRINT)}: cannot be read ({error}); {advice}") from error
    return found
