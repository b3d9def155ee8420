"""The page of a directory without a dataset: recognisers that were trained on images kept elsewhere, and verified."""

from hyperface.report import elements as e
from hyperface.report import verification
from hyperface.report.records import recorded_text, verifications
from hyperface.report.shell import document, provenance
from hyperface.run import Run
from hyperface.run.names import DATASET, PROVENANCE, REFERENCES


def is_without_dataset(run: Run) -> bool:
    """Whether something was verified here, and nothing was begun that becomes a dataset."""
    return bool(verifications(run)) and not run.store.exists(REFERENCES) and not run.store.list(DATASET)


def render(run: Run) -> str:
    """The whole page. Raises RunError for records that cannot be read; names them."""
    name = str(run).rstrip("/").rsplit("/", 1)[-1]
    found = verification.section(verifications(run)) or "<section><p>No set was verified yet.</p></section>"
    made = provenance(run.get_json(PROVENANCE), [], f"Record: {e.record(PROVENANCE)}", recorded_text(run))
    header = f"""<p class="eyebrow">HyperFace run report</p>
<h1>{e.text(name)}</h1>
<p class="lead">Recognisers and their verification. There is no dataset in this directory: what a student was trained on
is elsewhere, and nothing is said of it here.</p>
<p class="path">{e.text(run)}</p>"""
    return document(f"{name}: HyperFace run report", header, f"{found}\n{made}")
