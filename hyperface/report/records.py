"""What the page is made of: the records of a run, read once."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hyperface.config import Config
from hyperface.run import (
    AUDIT,
    AUDIT_FACES,
    CONFIG,
    INDEX,
    PACKING_SUMMARY,
    PROVENANCE,
    SEPARATION,
    VERIFICATION,
    Run,
    RunError,
    record_name,
)

FACES = "report/faces.json"
STAGES = ("embed", "packing", "synthesis", "report")


@dataclass(frozen=True)
class Records:
    directory: str
    config: Config
    """As recorded in the run."""
    config_yaml: str
    provenance: dict[str, Any]
    packing_summary: dict[str, Any]
    packing_steps: list[dict[str, Any]]
    """Rows {step, max_cosine, mean_nearest_cosine, mean_gallery_cosine, loss, seconds}; none without steps."""
    finished: dict[str, list[dict[str, Any]]]
    """{stage: its rows {"event": "finished", "seconds", ...}}; several when a run was resumed."""
    index: dict[str, Any]
    separation: dict[str, Any]
    faces: dict[str, Any]
    verification: dict[str, Any]
    """{name of the record: its content}, of every recogniser that was evaluated."""
    audit: Any
    """None: there is none; and so with its faces."""
    audit_faces: Any
    is_audited: bool
    """Whether the audit is of the dataset as it is now."""

    def seconds(self, stage: str) -> float | None:
        """Wall time that the stage recorded, over all its finished parts; None when it recorded none.

        The packing records the time of its steps in its summary.
        """
        if stage == "packing":
            return float(self.packing_summary["seconds"])
        rows = self.finished[stage]
        return sum(float(row["seconds"]) for row in rows) if rows else None


def load(run: Run) -> Records:
    """Read the records of a measured run. Raises RunError when one is missing or no JSON; names it."""
    rows = {stage: _rows(run, stage) for stage in STAGES}
    audit = read_json(run, AUDIT) if run.store.exists(AUDIT) else None
    return Records(
        directory=str(run),
        config=run.config,
        config_yaml=run.store.read(CONFIG).decode(),
        provenance=read_json(run, PROVENANCE),
        packing_summary=read_json(run, PACKING_SUMMARY),
        packing_steps=[row for row in rows["packing"] if "step" in row and "max_cosine" in row],
        finished={
            stage: [row for row in stage_rows if row.get("event") == "finished"] for stage, stage_rows in rows.items()
        },
        index=read_json(run, INDEX),
        separation=read_json(run, SEPARATION),
        faces=read_json(run, FACES),
        verification=verifications(run),
        audit=audit,
        audit_faces=None if audit is None else read_json(run, AUDIT_FACES),
        is_audited=audit is not None and _audited_index(audit) == hashlib.sha256(run.store.read(INDEX)).hexdigest(),
    )


def verifications(run: Run) -> dict[str, Any]:
    """{name of the record: its content} of every recogniser that was evaluated. Raises RunError as `read_json`."""
    return {name: read_json(run, name) for name in sorted(run.store.list(VERIFICATION)) if name.endswith(".json")}


def _rows(run: Run, stage: str) -> list[dict[str, Any]]:
    try:
        return run.records(stage)
    except ValueError as error:
        name = run.store.uri(record_name(stage))
        raise RunError(f"{name}: has a line that is no JSON ({error}); delete that line") from error


def read_json(run: Run, name: str) -> Any:
    """A record. Raises RunError when it is missing or no JSON."""
    try:
        return run.get_json(name)
    except FileNotFoundError as error:
        raise RunError(f"{run.store.uri(name)}: is missing; run the job that writes it again") from error
    except ValueError as error:  # of JSON, or of its encoding
        raise RunError(f"{run.store.uri(name)}: is no JSON ({error}); delete it, and run its job again") from error


@contextmanager
def drawn_from(directory: str, *names: str) -> Iterator[None]:
    """Turn what goes wrong in drawing a record that is damaged, or of an older shape, into a RunError that names it."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else str(error)
        one_of = "is" if len(names) == 1 else "one of them is"
        raise RunError(
            f"{' or '.join(f'{directory}/{name}' for name in names)}: {one_of} damaged or of another version ({what}); "
            "delete it, and run the job that writes it again"
        ) from error


def _audited_index(audit: Any) -> Any:
    """Hash of the index that was audited; None where the record has none."""
    asked = audit.get("asked") if isinstance(audit, dict) else None
    return asked.get("dataset") if isinstance(asked, dict) else None
