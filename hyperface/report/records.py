"""What the page is made of: the records of a run, read once."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hyperface.config import Config
from hyperface.errors import RunError
from hyperface.run import Run
from hyperface.run.names import AUDIT, AUDIT_FACES, CONFIG, INDEX, PACKING_SUMMARY, PROVENANCE, SEPARATION, VERIFICATION

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
    rows = {stage: run.records(stage) for stage in STAGES}
    audit = run.get_json(AUDIT) if run.store.exists(AUDIT) else None
    return Records(
        directory=str(run),
        config=run.config,
        config_yaml=recorded_text(run),
        provenance=run.get_json(PROVENANCE),
        packing_summary=run.get_json(PACKING_SUMMARY),
        packing_steps=[row for row in rows["packing"] if "step" in row and "max_cosine" in row],
        finished={
            stage: [row for row in stage_rows if row.get("event") == "finished"] for stage, stage_rows in rows.items()
        },
        index=run.get_json(INDEX),
        separation=run.get_json(SEPARATION),
        faces=run.get_json(FACES),
        verification=verifications(run),
        audit=audit,
        audit_faces=None if audit is None else run.get_json(AUDIT_FACES),
        is_audited=audit is not None and _audited_index(audit) == hashlib.sha256(run.store.read(INDEX)).hexdigest(),
    )


def recorded_text(run: Run) -> str:
    """The run's configuration as it is recorded. Raises RunError when it is gone."""
    try:
        return run.store.read(CONFIG).decode()
    except FileNotFoundError as error:
        raise RunError(f"{run.store.uri(CONFIG)}: is missing; the command that made the run writes it again") from error


def verifications(run: Run) -> dict[str, Any]:
    """{name of the record: its content} of every recogniser that was evaluated. Raises RunError as `Run.get_json`."""
    return {name: run.get_json(name) for name in sorted(run.store.list(VERIFICATION)) if name.endswith(".json")}


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
