"""The page of a run that was evaluated: who reached what, what could not be measured, whose numbers stand beside."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from color_world import color_config
from finished_run import ColorJudge, finished_run, write_color_report
from reported_run import TRAINING, ColorFeatures, pair_set, put_verification
from test_report import Tags, Untouchable, cells, html, visible

from hyperface.errors import RunError
from hyperface.report import page, plots, records, write_report
from hyperface.report.verification import PUBLISHED, Measured, Verifications, benchmark_of, evaluated
from hyperface.run import Run, open_run
from hyperface.run.names import DATASET, REFERENCES, REPORT, VERIFICATION
from hyperface.verification import verification as protocol
from hyperface.verification.stage import embedded

TOY = "toy world, held-out set hard, 10 folds of 40 identities x 5 views"
QUESTION = "How well do recognisers tell people apart?"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run that was reported, then evaluated, then reported again."""
    run = finished_run(tmp_path_factory.mktemp("run"))
    write_color_report(run)
    assert QUESTION not in visible(run)
    benchmarks = [pair_set(name, seed=i) for i, name in enumerate(("LFW", "cfp_fp", "cplfw", "agedb-30", "calfw"))]
    put_verification(run, "student", [*benchmarks, pair_set("hard", TOY, seed=9)])
    put_verification(run, "judge", [pair_set("hard", TOY, seed=9)], kind="judge")
    put_verification(run, "onnx-5e5e5e5e5e5e", [pair_set("lfw", seed=3), pair_set("mine")], kind="onnx")
    write_report(run, Untouchable(), ColorJudge())
    return run


def section(run: Run) -> str:
    found = re.search(f"<h2>{re.escape(QUESTION)}</h2>(.*?)</section>", html(run), re.DOTALL)
    assert found
    return found[1]


def drawn(run: Run) -> Verifications:
    found = page.view(records.load(run)).verification
    assert found
    return found


def table(run: Run, caption: str) -> str:
    found = re.search(f"<caption>{caption}<span>(.*?)</table>", section(run), re.DOTALL)
    assert found
    return found[1]


def test_what_was_evaluated_later_is_shown_between_images_and_packing_and_nothing_measured_again(run: Run) -> None:
    headings = re.findall("<h2>(.*?)</h2>", html(run))
    at = headings.index(QUESTION)
    assert headings[at - 1 : at + 2] == ["Do the images keep their identities?", QUESTION, "Packing the identities"]


def test_accuracy_deviation_and_equal_error_are_as_recorded_and_lead_to_the_record(run: Run) -> None:
    for label in ("student", "judge"):
        found = run.get_json(f"{VERIFICATION}/{label}.json")["sets"]["hard"]
        row = re.search(
            f'<a href="../{VERIFICATION}/{label}.json">{label}</a>.*?</tr>', table(run, "Sets of the toy world")
        )
        assert row
        assert f">{100 * found['accuracy']:.2f} ± {100 * found['accuracy_std']:.2f}<" in row[0]
        assert f"EER {100 * found['eer']:.2f}<" in row[0]
        assert 0.6 < found["accuracy"] < 1


def test_every_kind_of_recogniser_is_said_in_words(run: Run) -> None:
    text = visible(run)
    assert "IResNet-50, ArcFace, 26 epochs on 500,000 images of 10,000 identities; recipe arcface_r50" in text
    assert "independent network, only measures" in text
    assert "ONNX file, SHA-256 5e5e5e5e5e5e" in text
    record = {"model": {"kind": "recognizer"}, "sets": {}}
    assert evaluated(f"{VERIFICATION}/recognizer.json", record).label == "recogniser"


def test_published_numbers_stand_beside_benchmarks_with_their_source_and_nowhere_else(run: Run) -> None:
    shown, others = table(run, "Benchmarks"), table(run, "Sets of the toy world") + table(run, "Other sets")
    for row in PUBLISHED:
        assert row.dataset in shown
        assert row.source in shown
        assert f">{100 * row.mean:.2f}<" in shown
        assert row.dataset not in others
    for number in ("98.50", "88.83", "84.23", "86.53", "89.40"):
        assert f">{number}<" in shown
    assert re.findall("<th scope=.col. class=.number.>(.*?)</th>", shown)[0] == "LFW"
    assert "LFW has 6,000 pairs, and here 60" in shown
    assert np.isclose(PUBLISHED[0].mean, sum(PUBLISHED[0].accuracy.values()) / 5, atol=0.005)


def test_the_mean_of_the_five_is_of_all_five_or_not_there(run: Run) -> None:
    found = run.get_json(f"{VERIFICATION}/student.json")["sets"]
    five = [found[name]["accuracy"] for name in ("LFW", "cfp_fp", "cplfw", "agedb-30", "calfw")]
    rows = [re.search(f"/{label}.json.*?</tr>", table(run, "Benchmarks")) for label in ("student", "onnx-5e5e5e5e5e5e")]
    student, onnx = (row[0] if row else "" for row in rows)
    assert student.endswith(f'<td class="number">{100 * sum(five) / 5:.2f}</td></tr>')
    assert onnx.endswith('<td class="number">–</td></tr>')


@pytest.mark.parametrize("name", ["lfw", "LFW", "lfw.bin", "cfp-fp", "cfp_fp", "CFP_FP.bin", "agedb_30", "AgeDB-30"])
def test_a_benchmark_is_known_by_its_name_however_it_is_written(name: str) -> None:
    assert benchmark_of(name, measured(source="/faces")) in ("lfw", "cfpfp", "agedb30")


@pytest.mark.parametrize(("name", "source"), [("lfw2", "/faces"), ("cfp_ff", "/faces"), ("lfw", TOY)])
def test_other_sets_and_the_toy_world_are_no_benchmark(name: str, source: str) -> None:
    assert benchmark_of(name, measured(source)) == ""


def measured(source: str) -> Measured:
    return Measured(source, 60, 30, None, None, None, {}, {}, [], [])


def test_rates_that_cannot_be_measured_are_said_in_words(run: Run) -> None:
    found = drawn(run)
    assert found.fars == ["1e-1"]
    for _, _, measured in found.rates:
        assert list(measured.unmeasured.values()) == [["1e-2", "1e-3", "1e-4", "1e-5", "1e-6"]]
    (reason,) = found.rates[0][2].unmeasured
    assert reason == "not measurable (30 impostors)"
    assert reason in cells(section(run), "True accept rate at a false accept rate")[0]
    assert len(cells(section(run), "True accept rate at a false accept rate")) == 3


def test_a_set_without_folds_or_without_impostors_says_why_there_is_no_number(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    record = put_verification(run, "student", [pair_set("few", pairs=8), pair_set("none")])
    record["sets"]["ijbc"] = {**record["sets"]["few"], "name": "ijbc", "accuracy": None, "reasons": {}}
    distances, same = np.linspace(0, 2, 20), np.ones(20, bool)
    record["sets"]["none"] |= protocol.measured(distances, same)
    run.put_json(f"{VERIFICATION}/student.json", record)
    write_color_report(run)
    few, ijbc, none = cells(section(run), "Other sets")[1:]
    assert few.startswith(record["sets"]["few"]["reasons"]["accuracy"])
    assert ijbc.startswith("no folds, no accuracy")
    assert none == record["sets"]["none"]["reasons"]["accuracy"]
    assert [roc.title for roc in drawn(run).curves] == ["ROC: few", "ROC: IJB-C"]


def test_only_the_measurable_part_of_a_curve_is_drawn(run: Run) -> None:
    pairs = pair_set("hard", TOY, seed=9)
    x_ND = embedded(pairs, ColorFeatures(), 64)
    distance_P = protocol.squared_distances(x_ND, pairs.first_P, pairs.second_P)
    curve = protocol.roc(1 - distance_P / 2, pairs.same_P)
    name = f"{VERIFICATION}/judge.json"
    hard = evaluated(name, run.get_json(name)).sets["hard"]
    assert hard.far_T[0] == 1 / 30
    assert hard.tar_T[0] == curve.tar_T[curve.far_T <= 1 / 30 + 1e-9].max()
    assert hard.far_T == sorted(hard.far_T)
    assert (hard.far_T[-1], hard.tar_T[-1]) == (1, 1)


def test_every_set_has_a_plot_in_words_with_its_curves_labelled(run: Run) -> None:
    curves = {roc.title.removeprefix("ROC: "): roc for roc in drawn(run).curves}
    assert set(curves) == {"LFW", "CFP-FP", "CPLFW", "AgeDB-30", "CALFW", "mine", "hard"}
    assert [*curves][-1] == "hard"  # photographs before drawings
    assert re.findall("<h3>ROC: (.*?)</h3>", section(run)) == [*curves][:6]
    lfw = curves["LFW"]  # of LFW.bin and of lfw.bin
    assert [model.label for model in lfw.models] == ["student", "onnx-5e5e5e5e5e5e"]
    assert "student: equal error rate" in lfw.svg
    assert lfw.svg.count('class="line') == 2
    assert ">student</text>" in lfw.svg


def test_between_measured_rates_a_curve_claims_nothing() -> None:
    line = plots.Curve("a network with a long name", "tone-a", [0.01, 0.1], [0.5, 0.75])
    svg = plots.rates("title", [line], "far", "tar")
    path = re.search('class="line tone-a" d="(.*?)"', svg)
    assert path
    assert re.fullmatch(r"M[\d.]+ [\d.]+H[\d.]+V[\d.]+H[\d.]+", path[1])
    x, y, *_ = [float(number) for number in re.findall(r"[\d.]+", path[1])]
    at = {text: (float(x), float(y)) for x, y, text in re.findall(r'class="tick[^"]*" x="(.*?)" y="(.*?)">(.*?)<', svg)}
    assert x == pytest.approx(at["1e-2"][0], abs=0.1)
    assert y == pytest.approx(at["50 %"][1] - 4.5, abs=0.1)
    assert float(re.findall(r"H([\d.]+)", path[1])[0]) == pytest.approx(at["1e-1"][0], abs=0.1)
    assert ">a network with …<" in svg


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"model": {"kind": "trained"', "is no JSON"),
        (b'{"model": {"kind": "judge"}}', "has no 'sets'"),
        (
            b'{"model": {"kind": "human"}, "sets": {}}',
            "model.kind must be one of 'trained', 'recognizer', 'judge', 'onnx'; it is 'human'",
        ),
        (b"[]", "is no JSON object"),
    ],
)
def test_a_record_that_cannot_be_drawn_is_named_and_the_page_stays(tmp_path: Path, content: bytes, why: str) -> None:
    run = finished_run(tmp_path)
    write_color_report(run)
    before = run.store.read(REPORT)
    run.store.put(f"{VERIFICATION}/student.json", content)
    with pytest.raises(RunError, match=rf"student\.json.*{re.escape(why)}"):
        write_color_report(run)
    assert run.store.read(REPORT) == before


def test_a_record_of_an_older_shape_is_named(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    record = put_verification(run, "student", [pair_set("lfw")])
    del record["sets"]["lfw"]["tar_at_far"]["1e-5"]
    run.put_json(f"{VERIFICATION}/student.json", record)
    with pytest.raises(
        RunError, match=r"student\.json: sets\.lfw\.tar_at_far must have 1e-6, 1e-5, .*; restore it, or move"
    ):
        write_color_report(run)


def test_markup_in_an_evaluation_is_shown_not_obeyed_and_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    bad = '<script>alert(1)</script>"onload=x'
    training = json.loads(json.dumps(TRAINING))
    training["train"] |= {"recipe": bad, "head": bad, "backbone": bad}
    run = finished_run(tmp_path)
    put_verification(run, "student<b>", [pair_set(bad, source=bad), pair_set("lfw")], training=training)
    write_color_report(run)
    first = html(run)
    assert "<script" not in first
    assert "student<b>" not in first
    for tag, attributes in Tags(first).found:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert (attributes.get("href") or "#").startswith(("../", "#", "data:"))
    write_color_report(run)
    assert html(run) == first


def trained_elsewhere(directory: Path) -> Run:
    """A directory that holds a training on images kept elsewhere."""
    run = open_run(color_config(directory, "train.data=/faces"))
    put_verification(run, "student", [pair_set("lfw"), pair_set("hard", TOY, seed=9)])
    return run


def test_without_a_dataset_the_page_shows_what_was_verified_and_says_so(tmp_path: Path) -> None:
    run = trained_elsewhere(tmp_path)
    write_report(run, Untouchable(), None)
    assert re.findall("<h2>(.*?)</h2>", html(run)) == [QUESTION, "Provenance"]
    assert "There is no dataset in this directory" in visible(run)
    found = run.get_json(f"{VERIFICATION}/student.json")["sets"]["hard"]
    assert f">{100 * found['accuracy']:.2f} ± " in table(run, "Sets of the toy world")
    assert "data: /faces" in visible(run)


@pytest.mark.parametrize("begun", [REFERENCES, f"{DATASET}/parquet/shard-000000.parquet"])
def test_a_dataset_that_is_begun_is_to_be_finished_before_it_is_reported(tmp_path: Path, begun: str) -> None:
    run = trained_elsewhere(tmp_path)
    run.store.put(begun, b"")
    with pytest.raises(RunError, match="the dataset is not finished"):
        write_report(run, Untouchable(), None)
    nothing = open_run(color_config(tmp_path / "empty"))
    with pytest.raises(RunError, match="the dataset is not finished"):
        write_report(nothing, Untouchable(), None)


def test_a_recogniser_without_any_set_is_not_shown(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    run.put_json(f"{VERIFICATION}/judge.json", {"model": {"kind": "judge"}, "sets": {}})
    write_color_report(run)
    assert QUESTION not in visible(run)
