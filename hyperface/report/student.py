"""The page of a directory without a dataset: recognisers that were trained on images kept elsewhere, and verified."""

from dataclasses import dataclass
from typing import Any

from hyperface.report import verification
from hyperface.report.drawing import draw
from hyperface.report.records import recorded_text, verifications
from hyperface.run import Run
from hyperface.run.names import DATASET, PROVENANCE, REFERENCES


@dataclass(frozen=True)
class StudentPage:
    """All that `templates/student.html` shows."""

    verification: verification.Verifications | None
    made_by: dict[str, Any]
    config_yaml: str


def is_without_dataset(run: Run) -> bool:
    """Whether something was verified here, and nothing was begun that becomes a dataset."""
    return bool(verifications(run)) and not run.store.exists(REFERENCES) and not run.store.list(DATASET)


def render(run: Run) -> str:
    """The whole page. Raises RunError for records that cannot be read; names them."""
    found = verification.view(verifications(run))
    return draw("student.html", str(run), StudentPage(found, run.get_json(PROVENANCE), recorded_text(run)))
