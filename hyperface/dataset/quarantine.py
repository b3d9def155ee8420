"""The note about a shard that is left alone: it was begun too often and never finished."""

from dataclasses import asdict, dataclass

from hyperface.reading.json_text import built, from_json
from hyperface.run.records import to_json

RETRY = "synthesis.retry_quarantined=true"


@dataclass(frozen=True)
class Quarantine:
    """Why a shard is not begun again. The file goes when the shard is done."""

    shard: int
    attempts: int
    """Times that it was begun and not finished, in the job that gave it up."""
    error: str
    """What ended the last of them."""
    when: str
    """UTC, ISO 8601."""

    def __str__(self) -> str:
        return f"shard {self.shard} is quarantined: begun {self.attempts} times, last on {self.when}: {self.error}"


def to_bytes(quarantine: Quarantine) -> bytes:
    return to_json(asdict(quarantine))


def from_bytes(data: bytes, name: str) -> Quarantine:
    """Read what `to_bytes` wrote.

    Raises:
        ValueError: truncated or foreign; names the file.
    """
    try:
        note: Quarantine = built(Quarantine, from_json(data))
    except ValueError as error:
        raise ValueError(f"{name}: is no note about a quarantined shard ({error}); delete it") from error
    return note
