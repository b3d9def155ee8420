"""The report measures a finished run, and draws one self-contained HTML page from its records."""

from hyperface.models.protocols import Recognizer
from hyperface.progress.logs import Line, say
from hyperface.report import student
from hyperface.report.measure import measured
from hyperface.report.page import render
from hyperface.report.records import load
from hyperface.run import Run
from hyperface.run.names import REPORT

__all__ = ["write_report"]


def write_report(run: Run, recognizer: Recognizer, judge: Recognizer | None) -> None:
    """Measure the stored images, unless that is recorded already, and write `report/index.html`.

    A directory without a dataset, where recognisers were verified, gets a page of these.

    Args:
        recognizer: the one whose hypersphere was packed.
        judge: an independent one that only measures; None where there is none.

    Raises:
        RunError: the dataset is not finished.
    """
    if student.is_without_dataset(run):
        page = student.render(run)
    else:
        measured(run, recognizer, judge)
        page = render(load(run))
    run.store.put(REPORT, page.encode())
    say(Line("report", run.store.uri(REPORT)))
