"""The table of measured rates: the speed of one actor of each stage on one kind of machine, and its source."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

from hyperface.config import Config, StorageConfig, flat
from hyperface.errors import ConfigError
from hyperface.reading.json_text import built, from_json
from hyperface.reading.one_line import one_line
from hyperface.run.records import to_json
from hyperface.storage import open_file

RATES = "plan/rates.json"
"""File of the rates inside the run."""

UNITS = {
    "embedding_dim": "numbers of an embedding of the recogniser",
    "image_size": "height and width of a stored image, in pixels",
    "driver_seconds": "from the start of a job until it is connected to Ray",
    "embed_start_seconds": "from the wish for an actor of the gallery until it has its model",
    "embed_images_per_second": "faces that one actor of the gallery reads and embeds in a second",
    "draw_start_seconds": "from the wish for an actor of the synthesis until it has its models",
    "images_per_second": "planned images that one actor draws, encodes, embeds and gates in a second, redraws included",
    "jpeg_bytes": "bytes of a stored image",
    "webdataset_bytes": "bytes of an image in a tar shard, with its labels; where dataset.format asks for it",
    "parquet_bytes": "bytes of an image in a Parquet shard, with its labels; where dataset.format asks for it",
    "encode_seconds": "to make the files of a shard and their hashes, per image",
    "request_seconds": "of one small write to the run's storage",
    "upload_bytes_per_second": "written to the run's storage by one writer",
    "read_bytes_per_second": "of shards that are read back and checked by one reader",
    "pair_flops_float32": "FLOP/s of one worker in a step of the packing, with float32 products",
    "pair_flops_bfloat16": "the same with bfloat16 products; where packing.precision asks for it",
    "search_flops": "FLOP/s of one worker in a search of nearest rows",
    "report_start_seconds": "to load what the report measures with",
    "report_images_per_second": "images that the report decodes and embeds by recogniser and judge in a second",
    "compare_flops": "FLOP/s of the report's comparison of all pairs of references",
    "draw_gpu_bytes": "peak of a synthesis actor's memory on the GPU; where it has one",
}
"""Rates and their units, {rate: what it is}. All are numbers above 0, but for seconds, which may be 0."""

SETTINGS = (
    "recognizer.kind",
    "recognizer.sha256",
    "judge.kind",
    "embed.source",
    "embed.gpus_per_actor",
    "packing.separation",
    "packing.gpus_per_worker",
    "synthesis.generator",
    "synthesis.batch_size",
    "synthesis.diffusion_steps",
    "synthesis.guidance",
    "synthesis.alignment",
    "synthesis.max_attempts",
    "synthesis.min_cosine",
    "synthesis.min_judge_cosine",
    "synthesis.gpus_per_actor",
    "dataset.jpeg_quality",
    "arc2face.fast",
    "arc2face.precision",
    "arc2face.compile",
    "vec2face.size",
    "vec2face.precision",
    "control.targets",
    "control.steps",
    "control.redraw",
)
"""Keys on which rates depend: a plan with others than were measured has a warning."""


@dataclass(frozen=True)
class Rates:
    """The rates by name, as in `UNITS`."""

    source: str
    """Place that they were read from, for messages."""
    numbers: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that they were measured with, {"section.key": value} of `SETTINGS`; empty where nobody knows."""
    device: str = ""
    """Device that they were measured on."""

    def __getitem__(self, name: str) -> float:
        return self.numbers[name]

    def require(self, names: list[str]) -> None:
        """Raise ConfigError naming every one that is missing."""
        missing = [name for name in names if name not in self.numbers]
        if missing:
            listed = "".join(f"\n  {name}: {UNITS[name]}" for name in missing)
            raise ConfigError(
                f"plan.rates: {self.source} lacks rates that this configuration needs; measure them on the machines "
                f"that you plan for, with --calibrate at the end of this command, or write them:{listed}"
            )


class _Table(TypedDict):
    rates: dict[str, float]
    settings: NotRequired[dict[str, Any]]
    measured_on: NotRequired[dict[str, Any]]


def settings_of(config: Config) -> dict[str, Any]:
    values = flat(config)
    return {key: values[key] for key in SETTINGS}


def to_bytes(numbers: Mapping[str, float], config: Config, measured_on: Mapping[str, Any]) -> bytes:
    """Write the table as JSON; `measured_on` names device, machine, packages and commit."""
    return to_json({"rates": dict(numbers), "settings": settings_of(config), "measured_on": dict(measured_on)})


def read(config: Config) -> Rates:
    """The table of `plan.rates`, or the run's own.

    Raises:
        ConfigError: there is none, or it is no such table; names plan.rates and --calibrate.
        StorageError: it cannot be read.
    """
    path = config.plan.rates or f"{config.run.dir.rstrip('/')}/{RATES}"
    return read_file(path, config.storage)


def read_file(path: str, storage: StorageConfig) -> Rates:
    """Read a table of rates from a file; raises as `read`."""
    store, name = open_file(path, storage)
    uri = store.uri(name)
    if not store.exists(name):
        raise ConfigError(
            f"plan.rates: there are no measured rates at {uri}; measure them on the machines that you plan for, with "
            "--calibrate at the end of this command, or name a table with plan.rates=FILE"
        )
    try:
        given: _Table = built(_Table, from_json(store.read(name)))
    except ValueError as error:
        raise ConfigError(
            f"plan.rates: {uri} must be JSON with the numbers under `rates` ({one_line(error)}); "
            "measure them again with --calibrate"
        ) from error
    _check(given["rates"], uri)
    return Rates(uri, given["rates"], given.get("settings", {}), str(given.get("measured_on", {}).get("device", "")))


def _check(numbers: Mapping[str, float], uri: str) -> None:
    unknown = sorted(numbers.keys() - UNITS.keys())
    if unknown:
        raise ConfigError(
            f"plan.rates: {uri} has unknown rates {one_line(', '.join(unknown))}; known are {', '.join(UNITS)}"
        )
    for name, value in numbers.items():
        if not math.isfinite(value) or value < 0 or (value == 0 and "seconds" not in name.split("_per_")[0]):
            raise ConfigError(f"plan.rates: {name} of {uri} must be a number above 0 ({UNITS[name]}); it is {value}")
