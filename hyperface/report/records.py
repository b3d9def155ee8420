"""The page is made of the records of a run, which are read once."""

import hashlib
from dataclasses import dataclass
from typing import Any

from hyperface.config import Config
from hyperface.errors import RunError
from hyperface.run import Run
from hyperface.run.audit_shapes import Audit, AuditFaces
from hyperface.run.names import (
    AUDIT,
    AUDIT_FACES,
    CONFIG,
    FACES,
    INDEX,
    PACKING_SUMMARY,
    PROVENANCE,
    SEPARATION,
    VERIFICATION,
)
from hyperface.run.shapes import Faces, Index, PackingSummary, Row, Separation, Verification

STAGES = ("embed", "packing", "synthesis", "report")


@dataclass(frozen=True)
class Records:
    directory: str
    config: Config
    """The configuration is that which the run recorded."""
    config_yaml: str
    provenance: dict[str, Any]
    packing_summary: PackingSummary
    packing_steps: list[Row]
    """rows {step, max_cosine, mean_nearest_cosine, mean_gallery_cosine, loss, seconds}; none without steps"""
    finished: dict[str, list[Row]]
    """{stage: its rows {"event": "finished", "seconds", ...}, several when a run was resumed}"""
    index: Index
    separation: Separation
    faces: Faces
    verification: dict[str, Verification]
    """{name of the record of a recogniser that was evaluated: its content}"""
    audit: Audit | None
    """Without an audit, this and its faces are None."""
    audit_faces: AuditFaces | None
    is_audited: bool
    """The audit is of the dataset as it is now."""

    def seconds(self, stage: str) -> float | None:
        """The stage recorded this wall time over all its finished parts; None when it recorded none.

        The packing records the time of its steps in its summary.
        """
        if stage == "packing":
            return self.packing_summary["seconds"]
        spent = [row["seconds"] for row in self.finished[stage] if "seconds" in row]
        return sum(spent) if spent else None


def load(run: Run) -> Records:
    """The records of a measured run are read. RunError names the place of one that is missing or has another shape."""
    rows = {stage: run.records(stage) for stage in STAGES}
    audit = run.shaped(AUDIT, Audit) if run.store.exists(AUDIT) else None
    return Records(
        directory=str(run),
        config=run.config,
        config_yaml=recorded_text(run),
        provenance=run.get_json(PROVENANCE),
        packing_summary=run.shaped(PACKING_SUMMARY, PackingSummary),
        packing_steps=[row for row in rows["packing"] if "step" in row and "max_cosine" in row],
        finished={
            stage: [row for row in stage_rows if row.get("event") == "finished"] for stage, stage_rows in rows.items()
        },
        index=run.shaped(INDEX, Index),
        separation=run.shaped(SEPARATION, Separation),
        faces=run.shaped(FACES, Faces),
        verification=verifications(run),
        audit=audit,
        audit_faces=None if audit is None else run.shaped(AUDIT_FACES, AuditFaces),
        is_audited=audit is not None and audit["asked"]["dataset"] == hashlib.sha256(run.store.read(INDEX)).hexdigest(),
    )


def recorded_text(run: Run) -> str:
    """The recorded configuration of the run is read. RunError is raised when it is gone."""
    try:
        return run.store.read(CONFIG).decode()
    except FileNotFoundError as error:
        raise RunError(f"{run.store.uri(CONFIG)}: is missing; the command that made the run writes it again") from error


def verifications(run: Run) -> dict[str, Verification]:
    """The record of every recogniser that was evaluated is read, by its name. RunError is raised as by `Run.shaped`."""
    return {
        name: run.shaped(name, Verification) for name in sorted(run.store.list(VERIFICATION)) if name.endswith(".json")
    }
