"""A record that is damaged anywhere is refused when it is loaded, in one line that names the place in it, or is drawn.

A defect in drawing keeps its trace, and nobody is told to delete what took hours.
"""

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from color_world import ColorRecognizer
from finished_run import ColorJudge
from reported_run import packed_run, pair_set, put_audit, put_verification, summary

from hyperface import config as configuration
from hyperface.audit import record as audit
from hyperface.audit import summary as audit_lines
from hyperface.dataset.export import measured
from hyperface.errors import RunError
from hyperface.report import experiment, page, records, write_report
from hyperface.run import Run, existing_run
from hyperface.run.audit_shapes import Audit
from hyperface.run.names import (
    AUDIT,
    AUDIT_FACES,
    EXPERIMENT,
    FACES,
    INDEX,
    PACKING_SUMMARY,
    REFERENCES,
    SEPARATION,
    VERIFICATION,
    record_name,
)
from hyperface.run.records import FIX
from hyperface.status import lines, status

CASES = 60
"""Number of cases of each record, drawn from all by a fixed seed."""
LOST: Any = object()
HARM = (LOST, None, "x", "", [], {}, [[]], [None, None], {"x": "x"}, -1, 0, 2**62, 10**30, 1e308, float("nan"), True)
STUDENT, TRAINED = f"{VERIFICATION}/student.json", "recognition/student"
Place = tuple[str | int, ...]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Reported, verified and audited; with an experiment's summary and trainings that were begun beside it."""
    run = packed_run(tmp_path_factory.mktemp("run"))
    put_audit(run)
    put_verification(run, "student", [pair_set("lfw"), pair_set("mine", pairs=8)])
    write_report(run, ColorRecognizer(), ColorJudge())
    toy = configuration.load("jobs/configs/toy_experiment.yaml", ["run.dir=somewhere"])
    run.put_json(EXPERIMENT, json.loads(json.dumps(summary(toy, {}, repeats=2))))
    run.put_json(f"{TRAINED}/training.json", {"train": {"batch_size": 4, "epochs": 2}, "data": {"images": 8}})
    progress = {"history": [{"loss": 2.5}]}
    run.put_json(f"{TRAINED}/checkpoints/step-000000003/marker.json", {"step": 3, "progress": progress})
    told = {"trained_on": "here", "data": {"fingerprint": "ff"}, "steps": 2, "loss": 1.25, "sha256": "aa"}
    run.put_json("recognition/second/summary.json", told)
    return run


@pytest.fixture
def run(whole: Run, tmp_path: Path) -> Run:
    """Return a run that a test may change."""
    shutil.copytree(str(whole.config.run.dir), tmp_path / "run")
    return existing_run(str(tmp_path / "run"))


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Yield the place of every value inside, of lists that of the first."""
    inside = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*at, key)
        yield from places(inner, (*at, key))


def damaged(record: dict[str, Any], at: Place, harm: Any) -> dict[str, Any]:
    found = copy.deepcopy(record)
    inside: Any = found
    for key in at[:-1]:
        inside = inside[key]
    if harm is LOST:
        del inside[at[-1]]
    else:
        inside[at[-1]] = harm
    return found


def cases(record: dict[str, Any]) -> list[tuple[Place, Any]]:
    every = [(at, harm) for at in places(record) for harm in HARM]
    return random.Random(7).sample(every, min(CASES, len(every)))


def refusal(draw: Callable[[Run], str], run: Run) -> str:
    """Empty where it was drawn; anything but an error of ours is let through."""
    try:
        assert draw(run)
    except RunError as error:
        return str(error)
    return ""


def drawn(run: Run) -> str:
    return page.render(records.load(run))


def quoted(run: Run) -> str:
    found = run.shaped(AUDIT, Audit)
    return measured.sections(found, None) + "".join(audit_lines.lines(found))


def tried(run: Run) -> str:
    experiment.write_experiment(run)
    return "drawn"


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        *((name, drawn) for name in (INDEX, PACKING_SUMMARY, SEPARATION, FACES, AUDIT, AUDIT_FACES, STUDENT)),
        (AUDIT, quoted),
        (EXPERIMENT, tried),
    ],
)
def test_a_record_that_is_damaged_is_refused_in_one_line_or_drawn(run: Run, name: str, draw: Callable[[Run], str]):
    record = run.get_json(name)
    assert not refusal(draw, run)
    refused = 0
    for at, harm in cases(record):
        run.put_json(name, damaged(record, at, harm))
        if said := refusal(draw, run):
            refused += 1
            assert said.startswith(f"{run.store.uri(name)}: "), (at, harm)
            assert said.endswith(f"; {FIX}"), (at, harm)
            assert "\n" not in said, (at, harm)
    assert refused


@pytest.mark.parametrize("stage", ["packing", "synthesis", "embed", "report"])
def test_a_row_that_is_damaged_is_named_with_its_line_or_drawn(run: Run, stage: str):
    rows = [json.loads(line) for line in run.store.read(record_name(stage)).splitlines()]
    for at, harm in cases(rows[0]):
        whole = [damaged(rows[0], at, harm), *rows[1:]]
        run.store.put(record_name(stage), "".join(f"{json.dumps(row)}\n" for row in whole).encode())
        said = refusal(drawn, run)
        assert not said or f"{record_name(stage)}, line 1: is no row of a stage ({at[0]} must " in said, (at, harm)
        assert "\n".join(lines(status(run)))


@pytest.mark.parametrize(
    "name",
    [
        *(INDEX, PACKING_SUMMARY, STUDENT, f"{TRAINED}/training.json", "recognition/second/summary.json"),
        *(f"{TRAINED}/checkpoints/step-000000003/marker.json", "packing/checkpoints/step-000000003/marker.json"),
    ],
)
def test_the_status_of_a_run_with_a_damaged_record_is_told_to_its_end(run: Run, name: str):
    if name.startswith("packing/checkpoints"):
        run.put_json(name, {"step": 3, "progress": [{"max_cosine": 0.5}]})
        run.store.delete(REFERENCES)
        run.store.delete(PACKING_SUMMARY)
    run.store.delete(EXPERIMENT)  # whose place would have no other stages
    record, before = run.get_json(name), len(status(run).failing)
    refused = 0
    for at, harm in cases(record):
        run.put_json(name, damaged(record, at, harm))
        found = status(run)
        assert "\n".join(lines(found))
        told = [problem for problem in found.failing if problem.startswith(f"{run.store.uri(name)}: ")]
        assert all(problem.endswith(f"; {FIX}") for problem in told), (at, harm)
        assert len(found.failing) == before + len(told), (at, harm)
        refused += len(told)
    assert refused


def test_a_defect_in_drawing_keeps_its_trace(run: Run):
    found = records.load(run)
    assert found.audit
    for broken in (
        replace(found, separation={}),  # type: ignore[typeddict-item]
        replace(found, audit={**found.audit, "networks": {"judge": {}}}),  # type: ignore[typeddict-item]
        replace(found, verification={STUDENT: {"model": {"kind": "judge"}, "sets": {"lfw": {}}}}),  # type: ignore[typeddict-item]
    ):
        with pytest.raises(KeyError):
            page.render(broken)


def test_an_audit_that_is_damaged_is_made_again_by_its_job(run: Run):
    found = run.get_json(AUDIT)
    assert audit.recorded(run, found["asked"])
    del found["networks"]["judge"]["intra"]
    run.put_json(AUDIT, found)
    assert audit.recorded(run, found["asked"]) is None
