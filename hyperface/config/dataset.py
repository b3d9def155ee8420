"""The sections `dataset`, `report` and `publish`: the writing of a dataset, its report, and its description for
others."""

import re
from dataclasses import dataclass
from typing import Literal

from hyperface.config.fields import Rules, knob, number

Format = Literal["parquet", "webdataset"]


@dataclass(frozen=True)
class DatasetConfig:
    format: Literal["webdataset", "parquet", "both"] = "webdataset"
    """File format of the shards."""
    jpeg_quality: int = number(95, at_least=1, at_most=100)
    """Quality of the JPEG images, 1 to 100."""

    @property
    def formats(self) -> tuple[Format, ...]:
        """Return the file formats of each shard."""
        return ("parquet", "webdataset") if self.format == "both" else (self.format,)


@dataclass(frozen=True)
class ReportConfig:
    max_images: int = knob(4000, at_least=1)
    """Images that are read back and embedded by recogniser and judge for the report."""
    grid_identities: int = knob(10, at_least=1)
    """Rows of the face grids."""
    grid_images: int = knob(8, at_least=1)
    """Columns of the face grids."""


@dataclass(frozen=True)
class PublishConfig:
    name: str = knob("Synthetic faces")
    """Title of the dataset."""
    license: str = knob("")
    """Identifier of a licence as the Hugging Face hub writes it, e.g. cc-by-nc-4.0; empty: by the licences of the
    models that drew and measured the images, which bind whoever chooses another."""
    creator: str = knob("")
    """Person or organisation that publishes it."""
    url: str = knob("")
    """Address where it is published, e.g. https://huggingface.co/datasets/OWNER/NAME."""


def publish_rules(p: PublishConfig) -> Rules:
    for key in ("name", "creator"):
        yield f"publish.{key}", getattr(p, key).isprintable(), "must be one line of text"
    yield "publish.name", bool(p.name.strip()), "must not be empty"
    rule = "must be an identifier such as apache-2.0 or cc-by-nc-4.0, or empty (by the models' licences)"
    yield "publish.license", bool(re.fullmatch(r"([a-z0-9][a-z0-9.-]*)?", p.license)), rule
    address = not p.url or bool(re.fullmatch(r"https?://[^\s@]+", p.url))
    yield "publish.url", address, "must be an address http:// or https:// without user or password, or empty"
