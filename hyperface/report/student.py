"""A directory without a dataset gets a page of its recognisers, which were trained on images kept elsewhere."""

from dataclasses import dataclass
from typing import Any

from hyperface.report import verification
from hyperface.report.drawing import draw
from hyperface.report.records import recorded_text, verifications
from hyperface.run import Run
from hyperface.run.names import DATASET, PROVENANCE, REFERENCES


@dataclass(frozen=True)
class StudentPage:
    """`templates/student.html` shows all of this."""

    verification: verification.Verifications | None
    made_by: dict[str, Any]
    config_yaml: str


def is_without_dataset(run: Run) -> bool:
    """Something was verified here, and nothing was begun that becomes a dataset."""
    return bool(verifications(run)) and not run.store.exists(REFERENCES) and not run.store.list(DATASET)


def render(run: Run) -> str:
    """The records become a whole page. RunError names one that cannot be read."""
    found = verification.view(verifications(run))
    return draw("student.html", str(run), StudentPage(found, run.get_json(PROVENANCE), recorded_text(run)))
