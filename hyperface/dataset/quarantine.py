"""The note about a shard that is left alone: it was begun too often and never finished."""

import json
from dataclasses import asdict, dataclass, fields

from hyperface.run import to_json

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
        given = json.loads(data)
        if set(given) != {f.name for f in fields(Quarantine)}:
            raise ValueError(f"must have the fields {', '.join(f.name for f in fields(Quarantine))}")
        return Quarantine(int(given["shard"]), int(given["attempts"]), str(given["error"]), str(given["when"]))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: is no note about a quarantined shard ({error}); delete it") from error
