"""Markers of shards: the done marker, by which a shard exists, or a note why it is left alone."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from hyperface.dataset.duplicates import from_text
from hyperface.reading.json_text import built, from_json
from hyperface.run.records import to_json

RETRY = "synthesis.retry_quarantined=true"
"""The setting that takes up quarantined shards again."""


@dataclass(frozen=True)
class FileRecord:
    """One data file of a shard."""

    name: str
    """Name inside the run: dataset/parquet/shard-000042.parquet."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Reject:
    """An image that never reached the gate, and is therefore not in the shard."""

    key: str
    identity: int
    image_index: int
    attempts: int
    best_cosine: float | None
    """Highest cosine to the reference among its draws; None when no draw gave one."""
    reason: str
    """Reason why the last draw was refused: one of `REASONS` in `hyperface/synthesis/quality.py`."""
    error: str
    """Error of the generator, where the reason is `error`."""


@dataclass(frozen=True)
class Statistics:
    """Counts of one shard; equal for equal shards."""

    draws: int
    """Number of images asked of the generator, redraws included."""
    redraws: int
    refused: dict[str, int]
    """Draws that were refused, by reason."""
    mean_cosine: float
    """Mean over the rows, to six digits; 0 for a shard without rows."""


@dataclass(frozen=True)
class Marker:
    shard: int
    files: tuple[FileRecord, ...]
    rows: int
    rejects: tuple[Reject, ...]
    statistics: Statistics
    hashes: str
    """Hashes, 16 hex digits for each row, in their order, where near-duplicates are looked for; else empty."""
    seconds: dict[str, float]
    """Time spent to generate, crop, encode and embed. Not compared: it differs each time."""
    fingerprint: str
    """SHA-256 of everything that decides the shard's bytes; see `fingerprint.py`."""
    etags: dict[str, str] = field(default_factory=dict)
    """ETags that an S3 server gave the files, {name: ETag}; empty on a local disk. Not compared: a copy has others."""
    control: dict[str, dict[str, int]] = field(default_factory=dict)
    """Outcomes of the rows, {attribute: {met: images, not_met: images}}; empty, and not written, where none is
    steered."""

    def agrees(self, other: "Marker") -> bool:
        """Return whether both describe the same shard with the same bytes."""
        own: dict[str, dict[str, Any]] = {"seconds": {}, "etags": {}}
        return {**asdict(self), **own} == {**asdict(other), **own}

    def to_bytes(self) -> bytes:
        """Return the marker as it is stored, in JSON."""
        return to_json({key: value for key, value in asdict(self).items() if value or key != "control"})

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: truncated or foreign; names the file and the rule.
        """
        try:
            marker: Self = built(cls, from_json(data))
            if marker.hashes and len(from_text(marker.hashes)) != marker.rows:
                raise ValueError(f"hashes must be 16 hex digits for each of {marker.rows} rows")
            if any(found.keys() != {"met", "not_met"} for found in marker.control.values()):
                raise ValueError("control must count what is met and not_met")
        except ValueError as error:
            raise ValueError(f"{name}: is not a shard's done marker ({error})") from error
        return marker


@dataclass(frozen=True)
class Quarantine:
    """A note why a shard is not begun again: it was begun too often and never finished. The file goes when it is
    done."""

    shard: int
    attempts: int
    """Number of times that it was begun and not finished, in the job that gave it up."""
    error: str
    """Error that ended the last of them."""
    when: str
    """Time of the note, UTC, ISO 8601."""

    def __str__(self) -> str:
        return f"shard {self.shard} is quarantined: begun {self.attempts} times, last on {self.when}: {self.error}"

    def to_bytes(self) -> bytes:
        """Return the note as it is stored, in JSON."""
        return to_json(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: truncated or foreign; names the file.
        """
        try:
            note: Self = built(cls, from_json(data))
        except ValueError as error:
            raise ValueError(f"{name}: is no note about a quarantined shard ({error}); delete it") from error
        return note
