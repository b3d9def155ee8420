"""The page of a run that was audited: numbers beside their yardstick, pairs with pictures, what was not measured."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from finished_run import ColorJudge
from reported_run import TRAITS, packed_run, put_audit
from test_report import Tags, Untouchable, cells, html, view, visible

from hyperface.errors import RunError
from hyperface.report import write_report
from hyperface.report.audit import AuditView
from hyperface.report.formats import NONE
from hyperface.run import Run, existing_run
from hyperface.run.names import AUDIT, AUDIT_FACES, INDEX, REPORT, SEPARATION

IDENTITIES = "Audit: how many identities are there?"
COPIES = "Audit: does a face copy a real one?"
SPREAD = "Audit: how are traits spread?"


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run that was reported, then audited, then reported again."""
    run = packed_run(tmp_path_factory.mktemp("run"))
    report(run)
    assert "Audit" not in visible(run)
    before = run.store.read(SEPARATION)
    put_audit(run)
    write_report(run, Untouchable(), ColorJudge())
    assert run.store.read(SEPARATION) == before
    return run


@pytest.fixture
def run(audited: Run, tmp_path: Path) -> Run:
    """Return a run that a test may change."""
    shutil.copytree(str(audited.config.run.dir), tmp_path / "run")
    return existing_run(str(tmp_path / "run"))


def report(run: Run) -> None:
    from color_world import ColorRecognizer

    write_report(run, ColorRecognizer(), ColorJudge())


def changed(run: Run, name: str, **keys: Any) -> None:
    run.put_json(name, {**run.get_json(name), **keys})


def section(run: Run, heading: str) -> str:
    found = re.search(f"<h2>{re.escape(heading)}</h2>(.*?)</section>", html(run), re.DOTALL)
    assert found
    return found[1]


def shown(run: Run) -> AuditView:
    found = view(run).audit
    assert found
    return found


def leak(run: Run, network: str = "judge") -> Mapping[str, Any]:
    found: Mapping[str, Any] = run.get_json(AUDIT)["leakage"]["gallery"][network]
    return found


def test_the_audit_is_shown_between_images_and_packing_the_judge_first(audited: Run) -> None:
    headings = re.findall("<h2>(.*?)</h2>", html(audited))
    at = headings.index(IDENTITIES)
    assert headings[at - 1 : at + 4] == [
        "Do the images keep their identities?",
        IDENTITIES,
        COPIES,
        SPREAD,
        "Packing the identities",
    ]
    part = section(audited, IDENTITIES)
    assert part.index("All pairs of images, by the independent judge") < part.index(
        "All pairs of images, by the recogniser"
    )


def test_identities_at_a_threshold_are_as_recorded(audited: Run) -> None:
    part, networks = section(audited, IDENTITIES), audited.get_json(AUDIT)["networks"]
    for row, (name, called) in enumerate((("judge", "independent judge"), ("recognizer", "recogniser"))):
        at = networks[name]["at_calibrated"]
        found = cells(part, "Identities at a threshold", 2 * row)
        assert found[:3] == [called, "FAR 1e-4 of gallery", f"{at['cosine']:.3f}"]
        assert found[3:5] == [f"{at['effective_identities']} of 6", f"{100 * at['separable']:.2f} %"]
        equal = cells(part, "Identities at a threshold", 2 * row + 1)
        assert equal[1] == f"equal error, {100 * networks[name]['equal_error']['rate']:.2f} %"


def test_counts_over_the_threshold_stand_beside_what_chance_and_strangers_give(run: Run) -> None:
    record = run.get_json(AUDIT)
    of = record["leakage"]["gallery"]["judge"]
    of["images"] |= {"pairs_over": 7, "pairs_expected": 0.48, "share_over": 0.2, "identities_over": 3}
    of["real"]["share_over"] = 0.0125
    of["control"] |= {"found": 0.9, "copies": 40, "faces": 20}
    of["as_near"] = {"cosine": 0.987, "images": 2, "strangers": 1}
    of["images"]["nearest"]["most"], of["real"]["nearest_other"]["most"] = 0.999, 0.95
    run.put_json(AUDIT, record)
    report(run)
    part = section(run, COPIES)
    found = cells(part, "Over the threshold")
    assert found[:2] == ["the gallery 160 faces, 160 people", "independent judge"]
    assert found[3:] == ["7", "0.5", "20.00 % of 30", "1.25 %", "3", "90 % of 40"]
    text = visible(run)
    assert "7 of 4,800 pairs are over the threshold, where as many pairs of strangers would give 0.5." in text
    assert "20.00 % of the images are in one; 1.25 % of the real faces are, with a stranger." in text
    assert "The nearest image reaches cosine 0.999, the nearest two strangers 0.950." in text
    assert (
        "2 of 30 images are as near to a real face as planted copies are (cosine 0.987); 1 of 160 real faces are, to a "
        "stranger. All of this is more than strangers give: look at the pairs below." in text
    )
    assert "Of 40 planted copies of 20 real faces, moved by a pixel or two and compressed, 90 % were found" in text
    assert "A pair over it is not yet a copy" in text


@pytest.mark.parametrize(
    ("pairs", "share", "most", "near", "said"),
    [
        (0, 0.0, 0.9, 0, True),
        (7, 0.0, 0.9, 0, False),
        (0, 0.5, 0.9, 0, False),
        (0, 0.0, 0.97, 0, False),
        (0, 0.0, 0.9, 3, False),
        (0, 0.0, 0.9, None, True),
    ],
    ids=["none", "pairs", "images", "nearest", "as near as copies", "without a control"],
)
def test_what_is_no_more_than_strangers_give_is_said_only_where_all_of_it_agrees(
    run: Run, pairs: int, share: float, most: float, near: int | None, said: bool
) -> None:
    record = run.get_json(AUDIT)
    for of in record["leakage"]["gallery"].values():
        of["images"] |= {"pairs_over": pairs, "pairs_expected": 0.48, "share_over": share}
        of["real"]["share_over"] = 0.0125
        of["as_near"] = None if near is None else {"cosine": 0.98, "images": near, "strangers": 2}
        of["images"]["nearest"]["most"], of["real"]["nearest_other"]["most"] = most, 0.95
    run.put_json(AUDIT, record)
    report(run)
    assert [any(leak.over_strangers) for leak in shown(run).leaks] == [not said] * 2
    assert not any(all(leak.over_strangers) for leak in shown(run).leaks)
    assert ("None of this is more than strangers give." in visible(run)) == said


def test_the_nearest_real_faces_are_drawn_with_their_yardstick_and_the_threshold(audited: Run) -> None:
    of, svg = leak(audited), shown(audited).leaks[0].svg
    title = svg[svg.index("<title>") : svg.index("</title>")]
    assert f"{of['images']['nearest']['mean']:.3f}" in title
    assert f"{of['real']['nearest_other']['mean']:.3f}" in title
    assert svg.count('class="area') == 2
    assert f"{of['threshold']['cosine']:.2f}<" in svg
    assert svg in html(audited)


def test_pairs_are_shown_with_both_pictures_and_what_they_are(audited: Run) -> None:
    faces = audited.get_json(AUDIT_FACES)
    images = [attributes for tag, attributes in Tags(section(audited, COPIES)).found if tag == "img"]
    rows = sum(len(pairs) for pairs in faces["leakage"]["gallery"].values())
    assert len(images) == 2 * rows == 24
    sources = [str(image["src"]) for image in images[:2]]
    top = faces["leakage"]["gallery"]["judge"][0]
    assert sources == [f"data:image/jpeg;base64,{image['jpeg']}" for image in top["images"]]
    assert str(images[0]["alt"]).endswith(", synthetic")
    assert images[1]["alt"] == f"Real face {top['images'][1]['key']}"
    text = visible(audited)
    assert f"cosine {top['cosine']:.2f}" in text
    identities = faces["nearest_identities"]["judge"][0]["images"]
    first, second = (int(image["key"].split("-")[0]) for image in identities)
    assert f"identities {first} and {second}" in text


def test_where_there_is_no_picture_a_cell_says_so(run: Run) -> None:
    faces = run.get_json(AUDIT_FACES)
    for pair in faces["leakage"]["gallery"]["judge"]:
        pair["images"][1]["jpeg"] = None
    run.put_json(AUDIT_FACES, faces)
    report(run)
    assert section(run, COPIES).count(">no picture</div>") == 6


def test_without_top_pairs_no_real_face_is_kept_or_shown(run: Run) -> None:
    put_audit(run, top_pairs=0)
    report(run)
    assert run.get_json(AUDIT_FACES)["leakage"] == {"gallery": {"recognizer": [], "judge": []}}
    part = section(run, COPIES)
    assert "<img" not in part
    assert "Most alike to" not in part


def test_what_was_not_measured_is_said_word_for_word(run: Run) -> None:
    notes = ["leakage of <i>x</i>: no & none", "separation by the judge: not measurable (0 impostors)"]
    assert "Not measured" not in visible(run)
    changed(run, AUDIT, not_measured=notes)
    report(run)
    assert "<li>leakage of &lt;i&gt;x&lt;/i&gt;: no &amp; none</li>" in html(run)
    assert f"<li>{notes[1]}</li>" in html(run)


def test_a_table_whose_faces_all_count_as_people_is_noted(run: Run) -> None:
    (note,) = run.get_json(AUDIT)["notes"]
    assert "160 faces counts as a person of its own" in note
    assert f"<li>{note}</li>" in html(run)
    changed(run, AUDIT, notes=[])
    report(run)
    assert "<li>" not in html(run)


def test_without_pictures_or_strangers_enough_nothing_is_made_up(tmp_path: Path) -> None:
    run = packed_run(tmp_path, 20)
    shutil.rmtree(tmp_path / "faces")
    put_audit(run)
    report(run)
    part = section(run, COPIES)
    found = cells(part, "Over the threshold")
    reason, control = leak(run, "recognizer")["threshold"]["reason"], leak(run, "recognizer")["control"]["reason"]
    assert found[2:] == [reason, *[NONE] * 5, control]
    assert reason == "not measurable (190 impostors)"
    assert cells(section(run, IDENTITIES), "Identities at a threshold")[2:] == [NONE] * 5
    assert ">no picture</div>" in part
    for note in run.get_json(AUDIT)["not_measured"]:
        assert note in visible(run)


def test_twelve_attributes_are_shown_those_whose_spread_differs_most(audited: Run) -> None:
    columns = audited.get_json(AUDIT)["attributes"]["columns"]
    ratios = {name: column["std_ratio"] for name, column in columns.items()}
    nearest = sorted(TRAITS, key=lambda name: max(ratios[name], 1 / ratios[name]))
    part = section(audited, SPREAD)
    found = shown(audited).attributes
    assert found
    assert {name for name, _ in found.compared} == set(nearest[2:])
    assert (len(found.compared), found.all_compared) == (12, 14)
    assert all(f"{name} {ratios[name]:.2f}" in found.compared_svg for name in nearest[2:])
    rows = [cells(part, "The same in numbers", row) for row in range(12)]
    assert [(row[0], row[3]) for row in rows] == [(name, f"× {ratios[name]:.2f}") for name, _ in found.compared]


def test_labels_and_attributes_without_a_gallery_are_counted_and_groups_compared(run: Run) -> None:
    numbers = {
        "kind": "number",
        "count": 6,
        "mean": 41.5,
        "std": 9.25,
        "quantiles": {"0.01": 20, "0.5": 40, "0.99": 60},
    }
    counts = {"b": 9, "a": 2, "c": 2, "d": 2, "<e>": 1}
    texts = {"kind": "text", "count": 16, "counts": counts, "evenness": 0.75}
    group = {"identities": 3, "mean_nearest": 0.4, "near_another": 1 / 3}
    alone = {"identities": 1, "mean_nearest": None, "near_another": None}
    found = {
        "source": "labels of <i>x</i>",
        "unit": "identity",
        "columns": {
            "age": {"dataset": numbers, "gallery": None, "std_ratio": None},
            "hair": {"dataset": texts, "gallery": None},
            "none": {"dataset": None, "gallery": None, "std_ratio": None},
        },
        "groups": {"hair": {"recognizer": {"groups": {"b": group, "<e>": alone}}}},
    }
    changed(run, AUDIT, attributes=found)
    report(run)
    part, drawn = section(run, SPREAD), shown(run).attributes
    assert drawn
    assert cells(part, "Attributes that the gallery does not have")[:4] == ["age", "6", "41.500", "9.250"]
    assert cells(part, "Labels") == ["hair", "16", "5", "0.75", "b 56.2 %, a 12.5 %, c 12.5 %, d 12.5 %, 1 more"]
    assert cells(part, "Identities within a group") == ["hair", "b", "3", "0.400", "33.3 %"]
    assert (drawn.groups_by, drawn.unmeasured_groups) == ("recogniser", 1)
    assert "<i>" not in part


def test_an_audit_of_a_dataset_that_has_changed_since_says_so(run: Run) -> None:
    assert shown(run).is_current
    assert "jobs.audit" not in section(run, IDENTITIES)
    changed(run, INDEX, made_again=True)
    report(run)
    assert not shown(run).is_current
    assert "jobs.audit" in section(run, IDENTITIES)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (AUDIT, b"{", "is no JSON"),
        (AUDIT_FACES, b"\xff", "is no JSON"),
        (AUDIT, b'{"networks": {}}', "has no 'asked'; restore it, or move it away"),
        (AUDIT_FACES, b"{}", "has no 'nearest_identities'"),
        (SEPARATION, b"[", "is no JSON"),
    ],
)
def test_a_record_that_cannot_be_drawn_is_named_and_the_page_stays(
    run: Run, name: str, content: bytes, why: str
) -> None:
    before = run.store.read(REPORT)
    run.store.put(name, content)
    with pytest.raises(RunError, match=rf"/{name}: .*{why}"):
        report(run)
    assert run.store.read(REPORT) == before


def test_an_audit_without_a_judge_says_that_nobody_else_looked(run: Run) -> None:
    record, faces = run.get_json(AUDIT), run.get_json(AUDIT_FACES)
    for part in (record["networks"], record["leakage"]["gallery"], faces["nearest_identities"]):
        del part["judge"]
    del faces["leakage"]["gallery"]["judge"]
    for of in record["attributes"]["groups"].values():
        del of["judge"]
    run.put_json(AUDIT, record)
    run.put_json(AUDIT_FACES, faces)
    report(run)
    assert [network.called for network in shown(run).networks] == ["recogniser"]
    assert "nobody else looked" in visible(run)
    assert "<details>" not in section(run, IDENTITIES)  # at once on the page: there is no other network's


def test_a_broken_line_of_a_stage_is_named(run: Run) -> None:
    run.store.put("records/packing.jsonl", b'{"step": 1\n{}\n')
    with pytest.raises(RunError, match=r"records/packing\.jsonl, line 1: is no row of a stage"):
        report(run)


def test_an_audit_without_its_faces_is_named(run: Run) -> None:
    run.store.delete(AUDIT_FACES)
    with pytest.raises(RunError, match=rf"{AUDIT_FACES}: is missing"):
        report(run)


def test_markup_in_an_audit_is_shown_not_obeyed_and_nothing_is_loaded(run: Run) -> None:
    bad = '<script>alert(1)</script>" onerror="x'
    record, faces = run.get_json(AUDIT), run.get_json(AUDIT_FACES)
    record["leakage"] = {bad: record["leakage"]["gallery"]}
    record["attributes"]["columns"] = {f"{bad}{name}": c for name, c in record["attributes"]["columns"].items()}
    record["attributes"]["source"] = bad
    for of in record["leakage"][bad].values():
        of["control"] = {"faces": 0, "reason": bad}
    faces["leakage"] = {bad: faces["leakage"]["gallery"]}
    faces["leakage"][bad]["judge"][0]["images"][1] = {"key": bad, "jpeg": f'"{bad}'}
    run.put_json(AUDIT, record)
    run.put_json(AUDIT_FACES, faces)
    report(run)
    assert "<script" not in html(run)
    tags = Tags(html(run)).found
    for tag, attributes_of in tags:
        assert not [name for name in attributes_of if name.startswith("on")], (tag, attributes_of)
        assert (attributes_of.get("src") or "data:").startswith("data:")
        assert (attributes_of.get("href") or "#").startswith(("../", "#", "data:"))
    assert html(run).count("<svg viewBox") == len(re.findall(r'role="img"><title>[^<]{20,}', html(run)))


def test_the_same_records_give_the_same_bytes(run: Run) -> None:
    before = run.store.read(REPORT)
    report(run)
    first = run.store.read(REPORT)
    report(run)
    assert run.store.read(REPORT) == first
    assert len(first) == pytest.approx(len(before), abs=200)
