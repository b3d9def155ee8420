"""The report in a real browser: everything decodes, nothing is requested, nothing spills, at both widths and themes."""

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from color_world import color_config
from finished_run import finished_run, write_color_report
from reported_run import packed_run, pair_set, put_audit, put_verification, summary

from hyperface import config as configuration
from hyperface.report.experiment import write_experiment
from hyperface.run import open_run
from hyperface.run.names import EXPERIMENT, REPORT

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """Headless Chromium spoken to through the pipe of its debugging protocol."""

    def __init__(self, program: str, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        # The protocol is read from descriptor 3 and written to descriptor 4.
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = [
            "bash",
            "-c",
            shell,
            "bash",
            program,
            *quiet,
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        self.process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.reader, self.writer = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self.numbers, self.events, self.session = itertools.count(1), [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.writer.write(json.dumps(message).encode() + b"\0")
        self.writer.flush()
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self.reader.read(1)) != b"\0":
            assert byte, "Chromium ended"
            data += byte
        answer = json.loads(data)
        if "method" in answer:
            self.events.append(answer)
        return answer

    def open(self, page: Path, width: int, dark: bool = False) -> None:
        self.events.clear()
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=theme)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read()

    def value(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def named(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event["method"] == method]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.reader.close()
        self.writer.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if program is None:
        pytest.fail("this test needs Chromium: apt-get update && apt-get install -y chromium")
    browser = Browser(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    write_color_report(finished_run(directory))
    return directory / REPORT


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all that may be on it, and names as long as they come."""
    directory = tmp_path_factory.mktemp("grown")
    run = packed_run(directory)
    sets = [
        pair_set(name, seed=i) for i, name in enumerate(("lfw", "cfp_fp", "agedb_30", "a-set-with-a-very-long-name"))
    ]
    for label, kind in (("student", "trained"), ("hyperface-10k-with-a-long-name", "trained"), ("judge", "judge")):
        put_verification(run, label, sets, kind=kind)
    put_audit(run)
    faces = run.get_json("evaluation/audit_faces.json")
    for pair in faces["leakage"]["gallery"]["judge"]:
        pair["images"][1] = {"key": "people/" + "A_Very_Long_Name_" * 4 + "0001.png", "jpeg": None}
    run.put_json("evaluation/audit_faces.json", faces)
    record = run.get_json("evaluation/audit.json")
    record["leakage"]["s3://bucket/" + "a-long-folder/" * 5] = {"judge": record["leakage"]["gallery"]["judge"]}
    record["not_measured"] = ["leakage of s3://bucket/" + "a-long-folder/" * 9 + " by the judge: no pictures"]
    run.put_json("evaluation/audit.json", record)
    write_color_report(run)
    return directory / "run" / REPORT


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("experiment")
    run = open_run(color_config(directory))
    config = configuration.load("jobs/configs/toy_experiment.yaml", ["run.dir=somewhere"])
    run.put_json(EXPERIMENT, summary(config, {"rendered": 0.93, "uniform": 0.72, "diverse-alpha-1": 0.9}))
    write_experiment(run)
    return directory / REPORT


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("name", "drawn"), [("grown", 20), ("experiment", 3)])
def test_the_grown_page_and_the_experiments_fit_with_all_that_unfolds(
    browser: Browser, request: pytest.FixtureRequest, name: str, drawn: int, width: int, dark: bool
) -> None:
    page = request.getfixturevalue(name)
    browser.open(page, width, dark)
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    shown = json.loads(browser.value("JSON.stringify([...document.images].map(i => [i.naturalWidth, i.width]))"))
    assert all(natural == 16 and laid_out > 20 for natural, laid_out in shown), shown
    assert browser.value("document.documentElement.scrollWidth") <= width
    plots = json.loads(browser.value("JSON.stringify([...document.querySelectorAll('svg')].map(s => s.clientHeight))"))
    assert len(plots) == drawn
    assert min(plots) > 150
    assert json.loads(browser.value(OUTSIDE)) == []
    assert browser.value(OVERLAPS) == "[]"
    assert browser.named("Log.entryAdded") == []
    asked = {event["request"]["url"] for event in browser.named("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("dark", [False, True])
def test_every_image_decodes_and_nothing_spills_over_the_page(
    browser: Browser, report: Path, width: int, dark: bool
) -> None:
    browser.open(report, width, dark)
    shown = json.loads(browser.value("JSON.stringify([...document.images].map(i => [i.naturalWidth, i.width]))"))
    assert len(shown) > 20
    assert all(natural == 16 and laid_out > 20 for natural, laid_out in shown), shown
    assert browser.value("document.documentElement.scrollWidth") <= width
    plots = json.loads(browser.value("JSON.stringify([...document.querySelectorAll('svg')].map(s => s.clientHeight))"))
    assert len(plots) == 8
    assert min(plots) > 150


def test_the_page_asks_for_nothing_and_the_console_stays_empty(browser: Browser, report: Path) -> None:
    browser.open(report, 1280)
    asked = {event["request"]["url"] for event in browser.named("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}
    assert browser.named("Log.entryAdded") == []
    assert browser.named("Runtime.exceptionThrown") == []
    assert browser.named("Runtime.consoleAPICalled") == []


def test_light_and_dark_differ_and_text_keeps_its_contrast(browser: Browser, report: Path) -> None:
    grounds = set()
    for dark in (False, True):
        browser.open(report, 1280, dark)
        ground, *inks = (
            _luminance(browser.value(f"getComputedStyle(document.querySelector('{name}')).{property}"))
            for name, property in (
                ("body", "backgroundColor"),
                ("h1", "color"),
                (".source", "color"),
                ("svg .label", "fill"),
            )
        )
        grounds.add(ground)
        for ink in inks:
            lighter, darker = max(ink, ground), min(ink, ground)
            assert (lighter + 0.05) / (darker + 0.05) >= 3.8, (dark, inks, ground)
    assert len(grounds) == 2


def test_labels_of_the_plots_do_not_overlap(browser: Browser, report: Path) -> None:
    for width in (1280, 420):
        browser.open(report, width)
        overlaps = browser.value(OVERLAPS)
        assert overlaps == "[]", (width, overlaps)


# Texts of plots, notes of tables and names of faces that leave the column of the page by more than 4 pixels.
OUTSIDE = """JSON.stringify([...document.querySelectorAll("svg text, caption span, figcaption, li")].filter(t => {
  const [box, page] = [t.getBoundingClientRect(), document.querySelector('main').getBoundingClientRect()];
  const room = parseFloat(getComputedStyle(document.querySelector('main')).paddingLeft) - 4;
  return box.width && (box.left < page.left + room || box.right > page.right - room);
}).map(t => t.textContent))"""

# Pairs of texts in one plot whose boxes share more than 2 pixels both ways; rotated axis labels included.
OVERLAPS = """JSON.stringify([...document.querySelectorAll('svg')].flatMap(svg => {
  const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) =>
    Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2 &&
    Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 4).map(([b, q]) => [a, b]));
}))"""


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2) of `rgb(r, g, b)`."""
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
