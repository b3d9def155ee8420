"""The report: measured once, numbers as measured, nothing executable, nothing loaded, equal bytes."""

import base64
import dataclasses
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from color_world import ColorGenerator, ColorRecognizer, color_run
from finished_run import ColorJudge, finished_run, write_color_report
from numpy.typing import NDArray
from PIL import Image

from hyperface.config import ControlConfig
from hyperface.dataset import Dataset, ShardImages, jpeg
from hyperface.errors import RunError
from hyperface.report import measure, page, plots, records, write_report
from hyperface.report.formats import NONE
from hyperface.run import Run
from hyperface.run.names import FACES, INDEX, PACKING_SUMMARY, PROVENANCE, REPORT, SEPARATION

MET = {"met": 18, "not_met": 6}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = finished_run(tmp_path_factory.mktemp("run"))
    write_color_report(run)
    return run


def html(run: Run) -> str:
    return run.store.read(REPORT).decode()


def visible(run: Run) -> str:
    """The text of the page, blanks and line breaks as one space."""
    apart = re.sub(r"(<dd|<dt)", r" \1", html(run).split("<body>")[1]).replace("&nbsp;", " ")
    return " ".join(re.sub(r"<[^>]*>", "", apart).split())


def view(run: Run) -> page.RunPage:
    return page.view(records.load(run))


def cells(part: str, caption: str, row: int = 0) -> list[str]:
    """The texts of a row of a table."""
    found = re.search(f"<caption>{caption}<.*?<tbody>(.*?)</tbody>", part, re.DOTALL)
    assert found
    line = found[1].split("</tr>")[row]
    texts = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line, re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", " ", text).split()) for text in texts]


class Tags(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


class Untouchable(ColorRecognizer):
    """The recogniser, but it must not be asked again."""

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError("embedded again")


def test_the_numbers_of_the_records_are_on_the_page(reported: Run) -> None:
    index, found, text = reported.get_json(INDEX), reported.get_json(SEPARATION), visible(reported)
    before, after = (found["references"][when]["pairs"]["most"] for when in ("before", "after"))
    judge = found["images"]["by_judge"]
    assert index["images"] == 30
    assert "30 synthetic face images of 6 identities" in text
    for number in (before, after, index["mean_cosine"], judge["intra"]["mean"], judge["inter"]["mean"]):
        assert f"{number:.2f}".replace("-", "\N{MINUS SIGN}") in text
    assert f"{100 * judge['equal_error_rate']:.1f} % of each" in text
    assert "Images drawn 7.5 per s" in text  # 30 images in the 4 s of the synthesis record
    assert cells(html(reported), "Time") == ["embed", "", "2.0 s", "10.0 faces/s"]
    assert cells(html(reported), "Counts", 1) == ["Numbers of the identities", "0 to 5"]
    assert all(name in text for name in (INDEX, SEPARATION, "packing/summary.json", "records/packing.jsonl"))


def test_measured_cosines_are_those_of_the_stored_images(reported: Run) -> None:
    rows = [row for shard in Dataset.of(reported) for row in zip(shard.identities, shard.jpegs, strict=True)]
    seen = ColorJudge().embed(np.stack([jpeg.decode(data) for _, data in rows])).astype(np.float64)
    identities = np.array([identity for identity, _ in rows])
    cosines, above = seen @ seen.T, np.triu(np.ones((len(rows), len(rows)), bool), 1)
    same = identities[:, None] == identities[None, :]
    found = reported.get_json(SEPARATION)["images"]
    assert found["by_judge"]["intra"]["mean"] == pytest.approx(cosines[above & same].mean(), abs=1e-5)
    assert found["by_judge"]["inter"]["mean"] == pytest.approx(cosines[above & ~same].mean(), abs=1e-5)
    assert found["to_reference"]["mean"] == pytest.approx(reported.get_json(INDEX)["mean_cosine"], abs=1e-4)


def test_before_packing_means_the_gallery_faces_that_packing_started_from(reported: Run) -> None:
    summary = reported.get_json(PACKING_SUMMARY)
    found = reported.get_json(SEPARATION)["references"]
    assert found["before"]["pairs"]["most"] == pytest.approx(summary["max_cosine_before"], abs=1e-5)
    assert found["after"]["pairs"]["most"] == pytest.approx(summary["max_cosine"], abs=1e-5)
    assert found["to_gallery"]["mean"] == pytest.approx(summary["mean_gallery_cosine"], abs=1e-5)


def test_the_page_loads_nothing_and_runs_nothing(reported: Run) -> None:
    tags = Tags(html(reported)).found
    assert not {tag for tag, _ in tags} & {"script", "iframe", "object", "embed", "base"}
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith(("../", "#", "data:"))
    assert "url(" not in html(reported)
    assert "@import" not in html(reported)


def test_every_face_and_plot_says_in_words_what_it_shows(reported: Run) -> None:
    source = html(reported)
    tags = Tags(source).found
    faces = [attributes for tag, attributes in tags if tag == "img"]
    assert all((face["alt"] or "").startswith("Identity ") for face in faces)
    assert (
        source.count("<svg") == source.count("<svg viewBox") == len(re.findall(r'role="img"><title>[^<]{20,}', source))
    )
    assert source.count("<table") == source.count("<caption>")
    assert next(tag for tag, _ in tags if tag in ("h1", "h2")) == "h1"


def test_markup_in_records_and_configuration_is_shown_not_obeyed(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    run = finished_run(tmp_path / "run<b>", f"embed.source={bad}")
    run.put_json(PROVENANCE, {"git_sha": bad, "packages": {bad: '"><img src=x onerror=alert(1)>'}})
    run.put_json(INDEX, {**run.get_json(INDEX), "refused": {bad: 1}, "formats": [bad], "control": {bad: MET}})
    write_color_report(run)
    source = html(run)
    assert "<script" not in source
    assert "run<b>" not in source
    assert source.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 6
    assert all((attributes.get("src") or "data:").startswith("data:") for _, attributes in Tags(source).found)


def test_the_same_records_give_the_same_bytes_and_are_not_measured_again(reported: Run) -> None:
    before, names = reported.store.read(REPORT), reported.store.list()
    write_report(reported, Untouchable(), ColorJudge())
    assert reported.store.read(REPORT) == before
    assert reported.store.list() == names


def test_other_settings_or_another_judge_are_measured_anew(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    write_color_report(run)
    fewer = dataclasses.replace(run.config.report, max_images=15, grid_identities=2)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, report=fewer))
    write_color_report(run)
    found = run.get_json(SEPARATION)
    assert (found["images"]["count"], found["images"]["by_judge"]["identities"]) == (15, 3)
    assert len(run.get_json(FACES)["grid"]) == 2
    write_report(run, ColorRecognizer(), None)
    assert run.get_json(SEPARATION)["images"]["by_judge"] is None


def test_without_a_judge_the_page_says_that_nobody_independent_looked(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    write_report(run, ColorRecognizer(), None)
    found = view(run)
    assert [by for by, _ in found.judges] == [compared.by for compared in found.compared] == ["recogniser"]
    assert "no independent judge" in visible(run)


def test_a_rejected_image_leaves_a_gap_with_its_name(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "synthesis.max_attempts=1", generator=ColorGenerator(miss_every=4))
    write_color_report(run)
    rejects = len(run.get_json(INDEX)["rejects"])
    assert rejects > 0
    assert sum(image is None for _, images in view(run).grid for image in images) == rejects
    assert html(run).count('<div class="face missing">rejected</div>') == rejects


def test_a_run_without_packing_steps_has_no_convergence_to_show(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "packing.steps=0")
    write_color_report(run)
    assert not view(run).convergence_svg
    assert "<h3>Convergence</h3>" not in html(run)


def test_one_image_per_identity_has_no_same_identity_cosine(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "synthesis.images_per_identity=1")
    write_color_report(run)
    assert run.get_json(SEPARATION)["images"]["by_judge"]["intra"] is None
    assert f"Same and different identity, cosine {NONE} and" in visible(run)


def test_an_unfinished_dataset_is_refused_with_the_next_step(tmp_path: Path) -> None:
    run = color_run(tmp_path)
    with pytest.raises(RunError, match=r"not finished; run `python -m jobs\.pipeline"):
        write_color_report(run)
    assert not run.store.exists(REPORT)


def test_a_dataset_of_rejects_only_is_refused(tmp_path: Path) -> None:
    run = finished_run(tmp_path, generator=ColorGenerator(miss_every=1))
    with pytest.raises(RunError, match="all of them were rejected"):
        write_color_report(run)


def test_measured_identities_are_whole_and_spread_evenly() -> None:
    assert measure.evenly(10, 4) == [0, 2, 5, 7]
    assert measure.evenly(3, 9) == [0, 1, 2]
    assert len(set(measure.evenly(1000, 999))) == 999


def test_reading_stops_when_all_images_are_found() -> None:
    def shards():
        yield ShardImages(["0000001-0001", "0000000-0000"], [1, 0], [1, 0], [b"b", b"x"], [0, 0], [0.5, 0.9])
        yield ShardImages(["0000001-0000"], [1], [0], [b"a"], [0], [0.6])
        raise AssertionError("read on")

    found = measure.collect(shards(), [1], 2)
    assert found.keys == ["0000001-0000", "0000001-0001"]
    assert found.jpegs == [b"a", b"b"]


def test_large_faces_are_made_small_and_small_ones_kept() -> None:
    def encoded(size: int) -> bytes:
        return jpeg.encode(np.full((size, size, 3), 90, np.uint8), 95)

    assert base64.b64decode(jpeg.thumbnail(encoded(64))) == encoded(64)
    with Image.open(io.BytesIO(base64.b64decode(jpeg.thumbnail(encoded(512))))) as small:
        assert small.size == (192, 192)


def test_time_is_summed_over_the_parts_of_a_resumed_run(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    run.record("synthesis", [{"event": "shard", "seconds": 99.0}, {"event": "finished", "seconds": 5.5}])
    write_color_report(run)
    assert records.load(run).seconds("synthesis") == 9.5
    assert records.load(run).seconds("packing") == run.get_json(PACKING_SUMMARY)["seconds"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.2, 0.3, [-0.2, -0.1, 0, 0.1, 0.2, 0.3]),
        (0, 0.037, [0, 0.01, 0.02, 0.03]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low: float, high: float, expected: list[float]) -> None:
    assert plots.ticks(low, high) == pytest.approx(expected)


def test_a_histogram_shows_the_range_in_which_something_was_counted() -> None:
    counts = [0] * 200
    counts[130], counts[144] = 5, 1
    assert plots.occupied_range([counts]) == pytest.approx((0.3, 0.5))
    assert plots.occupied_range([[0] * 199 + [7]]) == pytest.approx((0.8, 1))
    svg = plots.histograms("<title>", [plots.Histogram("<label>", "tone-a", counts, 0.31)], "pairs")
    assert "<title>&lt;title&gt;</title>" in svg
    assert "&lt;label&gt;, mean 0.31" in svg


@pytest.mark.parametrize("end", [0.1, 1.0])
def test_labels_at_the_ends_of_curves_keep_their_distance_inside_the_plot(end: float) -> None:
    lines = [plots.Curve(name, "tone-a", [0, 1], [1.1 - end, end]) for name in "abc"]
    svg = plots.curves("title", lines, "step", "cosine", plots.Rule("bound", end))
    heights = sorted(float(y) for y in re.findall(r'class="label [^"]*" x="[^"]*" y="([^"]*)"', svg))
    assert len(heights) == 4
    assert min(np.diff(heights)) >= 19.8
    assert heights[0] >= 14
    assert heights[-1] <= plots.HEIGHT


def test_a_steered_dataset_says_how_many_images_met_their_targets(reported: Run) -> None:
    found = records.load(reported)
    assert "<caption>Attribute control" not in page.render(found)
    control = ControlConfig(targets={"yaw": [-10.0, 10.0], "light": [0.0]}, shares={"yaw": [0.25, 0.5]})
    counted = {"light": {"met": 0, "not_met": 0}, "yaw": MET}
    steered = replace(found, config=replace(found.config, control=control), index={**found.index, "control": counted})
    source = page.render(steered)
    assert cells(source, "Attribute control") == ["light", "0", "equal", "0", "0", NONE]
    assert cells(source, "Attribute control", 1) == ["yaw", "-10, 10", "25 %, 50 %", "24", "18", "75.0"]
