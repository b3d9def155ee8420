"""JSON of a run that was cut, damaged or made to harm is one error that names the file."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from hyperface import config
from hyperface.dataset.marker import FileRecord, Marker, Quarantine, Reject, Statistics
from hyperface.errors import RunError
from hyperface.reading.json_text import Rule, built, from_json
from hyperface.run import Run
from hyperface.run.names import record_name
from hyperface.storage import LocalStore

DEEP = b"[" * 100_000
LONG = b"9" * 5000
"""More digits than Python makes a number of."""
MARKER = Marker(
    shard=3,
    files=(FileRecord("dataset/webdataset/shard-000003.tar", 10, "aa"),),
    rows=1,
    rejects=(Reject("0000001-0000", 1, 0, 3, None, "cosine", ""), Reject("0000001-0001", 1, 1, 3, 0.5, "cosine", "")),
    statistics=Statistics(4, 1, {"cosine": 2}, 0.5),
    hashes="0123456789abcdef",
    seconds={"generate": 0.5},
    fingerprint="ff",
    control={"yaw": {"met": 1, "not_met": 0}},
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(LocalStore(str(tmp_path)), config.load(None, [f"run.dir={tmp_path}"]))


@pytest.mark.parametrize("text", [b"", b"{", DEEP, b'{"a":' * 50_000, LONG, b"\xff", b"[1,]", b'{"a": 1}\x00'])
def test_what_is_no_json_is_a_value_error(text: bytes):
    with pytest.raises(ValueError, match=r"."):
        from_json(text)


@dataclass(frozen=True)
class Shelf:
    label: str
    places: tuple[int, ...]
    weight: float | None = None
    books: dict[str, int] = field(default_factory=dict)


def test_a_value_becomes_its_type():
    assert built(Shelf, {"label": "a", "places": [1, 2]}) == Shelf("a", (1, 2))
    assert built(Shelf, {"label": "a", "places": [], "weight": 2, "books": {"b": 1}}) == Shelf("a", (), 2.0, {"b": 1})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"label": 1}, "it.label must be of type str; it is 1"),
        ({"places": [1, True]}, r"it.places\[1\] must be of type int; it is True"),
        ({"places": [2**63]}, "must be of type int; it is 9223372036854775808"),
        ({"places": [10**3000]}, "must be of type int; it is 1000"),
        ({"places": 3}, "it.places must be of type tuple; it is 3"),
        ({"weight": "x"}, "it.weight must be of type number; it is 'x'"),
        ({"books": []}, "it.books must be of type dict"),
        ({"books": {"b": 1.5}}, "it.books.b must be of type int"),
        ({"more": 1}, "it must have the fields label, places, weight, books"),
    ],
)
def test_another_type_is_named_with_its_place(change: dict[str, Any], why: str):
    with pytest.raises(ValueError, match=why):
        built(Shelf, {"label": "a", "places": [], **change})


def test_a_marker_is_read_as_it_was_written():
    assert Marker.from_bytes(MARKER.to_bytes(), "m.json") == MARKER


HARM: list[Any] = [None, True, -1.5, "x", [], {}, [[]], float("inf"), 2**70]


@pytest.mark.parametrize("key", list(asdict(MARKER)))
@pytest.mark.parametrize("value", HARM, ids=map(str, HARM))
def test_a_marker_with_another_value_is_read_or_refused_by_name(key: str, value: Any):
    given = json.dumps(asdict(MARKER) | {key: value}).encode()
    found = ""
    try:
        read = Marker.from_bytes(given, "m.json")
    except ValueError as error:
        found = str(error)
    same = not found and getattr(read, key) in (value, tuple(value) if isinstance(value, list) else value)
    assert same or found.startswith("m.json: is not a shard's done marker (")


def test_deep_json_in_a_marker_and_in_a_note_is_refused_by_name():
    with pytest.raises(ValueError, match=r"m\.json: is not a shard's done marker \(nested too deeply\)"):
        Marker.from_bytes(DEEP, "m.json")
    with pytest.raises(ValueError, match=r"q\.json: is no note about a quarantined shard \(nested too deeply\)"):
        Quarantine.from_bytes(DEEP, "q.json")
    note = Quarantine(1, 2, "why", "when")
    assert Quarantine.from_bytes(note.to_bytes(), "q.json") == note


@pytest.mark.parametrize("text", [b"", DEEP, b"[]", b"null", b'{"a": ' + LONG + b"}"])
def test_a_record_that_is_no_object_is_named_with_the_fix(run: Run, text: bytes):
    run.store.put("a.json", text)
    with pytest.raises(RunError, match=r"/a\.json: is no JSON object .*; restore it, or move it away") as error:
        run.get_json("a.json")
    assert "\n" not in str(error.value)


class Seen(TypedDict):
    mean: Annotated[float, Rule("be finite", math.isfinite)]
    by: NotRequired[Literal["judge", "recognizer"]]


class Look(TypedDict):
    networks: dict[str, Seen | None]
    sizes: NotRequired[Annotated[list[int], Rule("be two", lambda value: len(value) == 2)] | None]


def test_a_record_that_has_its_shape_is_given_with_the_keys_of_later_versions(run: Run):
    later = {"networks": {"judge": {"mean": 1, "by": "judge", "more": [{}]}, "recognizer": None}, "version": 9}
    run.put_json("a.json", later)
    found = run.shaped("a.json", Look)
    assert found == later
    judge = found["networks"]["judge"]
    assert judge
    assert type(judge["mean"]) is float


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "has no 'networks'"),
        ({"networks": []}, "networks must be of type dict; it is []"),
        ({"networks": {"judge": {}}}, "networks.judge has no 'mean'"),
        ({"networks": {"judge": 3}}, "networks.judge must be of type object; it is 3"),
        ({"networks": {"judge": {"mean": "x"}}}, "networks.judge.mean must be of type number; it is 'x'"),
        ({"networks": {"judge": {"mean": None}}}, "networks.judge.mean must be of type number; it is None"),
        ({"networks": {"judge": {"mean": math.nan}}}, "networks.judge.mean must be finite; it is nan"),
        (
            {"networks": {"judge": {"mean": 0, "by": "me"}}},
            "networks.judge.by must be one of 'judge', 'recognizer'; it is 'me'",
        ),
        ({"networks": {}, "sizes": [1]}, "sizes must be two; it is [1]"),
        ({"networks": {}, "sizes": [1, "x"]}, "sizes[1] must be of type int; it is 'x'"),
        ({"networks": {"two\nlines": 1}}, "networks.two"),
    ],
)
def test_a_record_of_another_shape_is_named_with_the_place_in_it_and_the_fix(run: Run, content: Any, why: str):
    run.put_json("a.json", content)
    with pytest.raises(RunError) as error:
        run.shaped("a.json", Look)
    assert str(error.value).startswith(f"{run.store.uri('a.json')}: {why}")
    assert str(error.value).endswith("; restore it, or move it away and run its job again")
    assert "\n" not in str(error.value)


def test_a_record_that_is_not_there_is_named(run: Run):
    with pytest.raises(RunError, match=r"/none\.json: is missing; run the job that writes it again"):
        run.shaped("none.json", Look)


@pytest.mark.parametrize("cut", [b'{"step": 3, "lo', b"{", b'{"step": "\xc3'])
def test_a_last_line_that_was_cut_is_no_row_and_the_next_row_takes_its_place(run: Run, cut: bytes):
    run.record("packing", [{"step": 1}, {"step": 2}])
    whole = run.store.read(record_name("packing"))
    run.store.put(record_name("packing"), whole + cut)
    assert run.records("packing") == [{"step": 1}, {"step": 2}]
    run.record("packing", [{"step": 3}])
    assert run.records("packing") == [{"step": 1}, {"step": 2}, {"step": 3}]


def test_a_last_line_that_lacks_only_its_end_is_a_row(run: Run):
    run.store.put(record_name("packing"), b'{"step": 1}\n{"step": 2}')
    assert run.records("packing") == [{"step": 1}, {"step": 2}]
    run.record("packing", [{"step": 3}])
    assert run.records("packing") == [{"step": 1}, {"step": 2}, {"step": 3}]


@pytest.mark.parametrize("line", [b"x", b"[]", b"", DEEP, b'{"seconds": "x"}'])
def test_a_line_in_the_middle_that_is_no_row_is_named(run: Run, line: bytes):
    run.store.put(record_name("packing"), b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(RunError, match=r"records/packing\.jsonl, line 2: is no row of a stage .*; delete that line"):
        run.records("packing")
