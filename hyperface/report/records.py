"""What the page is made of: the records of a run, read once."""

from dataclasses import dataclass
from typing import Any

from hyperface.config import Config
from hyperface.report.measure import FACES
from hyperface.run import CONFIG, INDEX, PACKING_SUMMARY, PROVENANCE, SEPARATION, Run

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

    def seconds(self, stage: str) -> float | None:
        """Wall time that the stage recorded, over all its finished parts; None when it recorded none.

        The packing records the time of its steps in its summary.
        """
        if stage == "packing":
            return float(self.packing_summary["seconds"])
        rows = self.finished[stage]
        return sum(float(row["seconds"]) for row in rows) if rows else None


def load(run: Run) -> Records:
    """Read the records of a measured run. Raises FileNotFoundError when one is missing."""
    rows = {stage: run.records(stage) for stage in STAGES}
    return Records(
        directory=str(run),
        config=run.config,
        config_yaml=run.store.read(CONFIG).decode(),
        provenance=run.get_json(PROVENANCE),
        packing_summary=run.get_json(PACKING_SUMMARY),
        packing_steps=[row for row in rows["packing"] if "step" in row and "max_cosine" in row],
        finished={
            stage: [row for row in stage_rows if row.get("event") == "finished"] for stage, stage_rows in rows.items()
        },
        index=run.get_json(INDEX),
        separation=run.get_json(SEPARATION),
        faces=run.get_json(FACES),
    )
