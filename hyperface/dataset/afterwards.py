"""Check of what was made of a dataset afterwards: whether it belongs to this run. Every problem is one line that names
the file."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TypedDict

from hyperface.config import Config
from hyperface.errors import RunError
from hyperface.reading import numpy_file
from hyperface.reading.json_text import built, from_json
from hyperface.reading.one_line import one_line
from hyperface.run import records
from hyperface.run.audit_shapes import Audited
from hyperface.run.names import AUDIT, AUDIT_FACES, GENERATOR, NETWORKS, PROVENANCE, RECOGNITION, SEPARATION
from hyperface.run.records import Shape, digest
from hyperface.run.shapes import Count, Number, Provenance, TrainingSummary
from hyperface.storage import Store

ANCHORS = "synthesis/anchors/"


def problems(store: Store, config: Config, fingerprint: str, dataset: str | None, *, deep: bool) -> Iterator[str]:
    """Yield the faults of the provenance, the audit, the trainings and the anchors, as far as they are there.

    Args:
        fingerprint: fingerprint of the dataset.
        dataset: SHA-256 of its index; None: there is none yet.
        deep: also read networks and anchors.
    """
    there = store.list()
    trained_on = digest([f"{fingerprint} {dataset}"]) if dataset else None

    def known(name: str, shape: type[Shape], wrong: Callable[[Shape], str]) -> Iterator[str]:
        try:
            if name in there and (said := wrong(records.shaped(store, name, shape))):
                yield f"{store.uri(name)}: {said}"
        except RunError as error:
            yield str(error)

    def provenance(found: Provenance) -> str:
        seed = config.run.seed
        return "" if found["seed"] == seed else f"tells of run.seed={found['seed']}, and it is {seed}; restore it"

    def audit(found: Audited) -> str:
        same = dataset is None or found["asked"]["dataset"] == dataset
        return "" if same else "is of another dataset; run jobs.audit again"

    def separation(found: Audited) -> str:
        same = dataset is None or found["asked"]["dataset"] == dataset
        return "" if same else "is of another dataset; run jobs.report again"

    yield from known(PROVENANCE, Provenance, provenance)
    yield from known(AUDIT, Audited, audit)
    yield from known(SEPARATION, Audited, separation)
    yield from known(AUDIT_FACES, dict, lambda found: "")
    for section, root in (("train", RECOGNITION), ("train_generator", GENERATOR)):
        for name in sorted(name for name in there if name.startswith(f"{root}/") and name.count("/") == 2):
            if name.endswith("/summary.json"):
                folder = name.removesuffix("/summary.json")
                training = _Training(store, there, folder, section, trained_on, deep)
                yield from training.lost()
                yield from known(name, TrainingSummary, training.wrong)
    for name in sorted(name for name in there if deep and name.startswith(ANCHORS)):
        yield from _anchor_problems(store, name)


class _Step(TypedDict):
    step: Count
    loss: Number


class _Training:
    """A training that is finished, in its folder."""

    def __init__(
        self, store: Store, there: Mapping[str, int], folder: str, section: str, trained_on: str | None, deep: bool
    ) -> None:
        self.store, self.there, self.folder, self.section = store, there, folder, section
        self.network = f"{folder}/{NETWORKS[section]}"
        self.trained_on, self.deep = trained_on, deep

    def lost(self) -> Iterator[str]:
        for name in (self.network, f"{self.folder}/training.json", f"{self.folder}/steps.jsonl"):
            if name not in self.there:
                fix = f"restore it, or train under another {self.section}.name"
                yield f"{self.store.uri(name)}: is missing although its summary is there; {fix}"

    def wrong(self, summary: TrainingSummary) -> str:
        """Return what is wrong with its summary, or what that shows to be wrong with the files beside it."""
        here = summary["trained_on"] == str(self.store)
        if here and self.trained_on not in (None, summary["data"]["fingerprint"]):
            return f"is of a training on another dataset; restore it, or train under another {self.section}.name"
        begun, steps = f"{self.folder}/training.json", f"{self.folder}/steps.jsonl"
        if begun in self.there:
            found = records.get_json(self.store, begun)
            if changed := sorted(key for key in {self.section, "data", *found} if found.get(key) != summary.get(key)):
                return f"is not of the training in {begun}, by {', '.join(changed)}; restore both"
        if steps in self.there and self._last(steps) != (summary["steps"], summary["loss"]):
            return f"is not of the training in {steps}, whose last row must be its last step; restore both"
        read = self.deep and self.network in self.there
        if read and hashlib.sha256(self.store.read(self.network)).hexdigest() != summary["sha256"]:
            return f"is not of the network in {self.network}, which has another SHA-256; restore both"
        return ""

    def _last(self, steps: str) -> tuple[int, float] | None:
        try:
            rows = [built(_Step, from_json(line)) for line in self.store.read(steps).splitlines()]
        except ValueError:
            return None
        return (rows[-1]["step"], rows[-1]["loss"]) if rows else None


def _anchor_problems(store: Store, name: str) -> Iterator[str]:
    try:
        if numpy_file.array(store.read(name)).ndim != 2:
            raise ValueError("must hold rows")
    except ValueError as error:
        yield f"{store.uri(name)}: cannot be read ({one_line(error)}); delete it and run the job again"
