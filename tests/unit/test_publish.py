"""Contents of a published folder: card, Croissant metadata, checksums, and whose terms it is under."""

import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlcroissant
import pytest
import yaml
from audited_run import audited_run, auditor, put_faces
from color_world import color_run, make_dataset
from finished_run import finished_run, write_color_report
from PIL import Image

from hyperface import config
from hyperface.audit.auditor import audit_here
from hyperface.dataset import Dataset, card, licences
from hyperface.dataset.export import export_run
from hyperface.errors import ConfigError, RunError
from hyperface.models.loading import needs_files
from hyperface.run import Run
from hyperface.run.command_line import to_publish
from hyperface.run.names import AUDIT, SEPARATION
from hyperface.storage import open_store

TOLD = {"creator": "Somebody", "url": "https://example.org/faces", "license": "cc-by-nc-4.0"}


def publish(run: Run, folder: Path, **keys: str) -> list[str]:
    """Export; the lines that were said at the end."""
    said: list[str] = []
    published = replace(run, config=replace(run.config, publish=config.PublishConfig(**keys)))
    export_run(published, "huggingface", open_store(str(folder)), said.append)
    return said[-1].splitlines()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run that is drawn and audited."""
    root = tmp_path_factory.mktemp("run")
    put_faces(root / "faces", 40)
    made = audited_run(root / "run", root / "faces")
    audit_here(auditor(made))
    return made


@pytest.fixture(scope="module")
def folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "faces"
    publish(run, folder, **TOLD)
    return folder


def front(folder: Path) -> dict[str, Any]:
    head = (folder / "README.md").read_text().split("---\n")[1]
    found = yaml.safe_load(head)
    assert isinstance(found, dict)
    return found


def test_the_card_says_what_the_hub_wants_to_know(folder: Path):
    said = front(folder)
    assert said["license"] == "cc-by-nc-4.0"
    assert said["task_categories"] == ["image-classification"]
    assert said["size_categories"] == ["n<1K"]
    assert said["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}]
    text = (folder / "README.md").read_text()
    for heading in ("Intended use", "Measured separation", "Leakage audit", "How it was made", "Licences and limits"):
        assert f"\n## {heading}\n" in text


def test_the_card_has_the_numbers_of_the_audit_and_none_of_its_paths(run: Run, folder: Path):
    text, audit = (folder / "README.md").read_text(), run.get_json(AUDIT)
    judge, leaks = audit["networks"]["judge"], audit["leakage"]["gallery"]["judge"]
    assert f"| independent judge | {judge['images']} | {judge['equal_error']['rate']:.2%} |" in text
    assert f"| {judge['to_centre']['mean']:.3f} | {judge['nearest_centre']['most']:.3f} |" in text
    assert f"| `gallery` | independent judge | {leaks['faces']} |" in text
    assert f"| {leaks['images']['nearest']['most']:.3f} |" in text
    assert run.store.url not in text
    assert str(Path(run.store.url).parent) not in (folder / "croissant.json").read_text()


def test_mlcroissant_reads_the_images_by_the_metadata(run: Run, folder: Path):
    described = mlcroissant.Dataset(str(folder / "croissant.json"))
    assert not described.metadata.ctx.issues.errors
    assert not described.metadata.ctx.issues.warnings
    stored = {key: part for shard in Dataset.of(run) for key, part in zip(shard.keys, shard.jpegs, strict=True)}
    seeds = {key: seed for shard in Dataset.of(run) for key, seed in zip(shard.keys, shard.seeds, strict=True)}
    rows = list(described.records("faces"))
    assert {row["faces/key"].decode() for row in rows} == stored.keys()
    for row in rows:
        expected = Image.open(io.BytesIO(stored[row["faces/key"].decode()]))
        assert row["faces/image"].tobytes() == expected.tobytes()
        assert row["faces/seed"] == seeds[row["faces/key"].decode()]
    assert [row["classes/images"] for row in described.records("classes")] == [5] * 6


def test_the_metadata_has_what_the_specification_requires(folder: Path):
    said = json.loads((folder / "croissant.json").read_text())
    required = ("@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished")
    assert all(said[key] for key in required)
    assert said["conformsTo"] == "http://mlcommons.org/croissant/1.0"


def test_sha256sum_checks_every_file_of_the_folder(folder: Path, tmp_path: Path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(check, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    named = {line.split("  ")[1] for line in (copy / "SHA256SUMS").read_text().splitlines()}
    there = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert there - named == {"SHA256SUMS", "export.json"}
    data = next(copy.glob("data/*.parquet"))
    data.write_bytes(data.read_bytes() + b"x")
    assert subprocess.run(check, cwd=copy, capture_output=True, check=False).returncode == 1


def test_an_audit_that_came_later_gets_into_the_card_and_no_data_file_is_written_again(run: Run, tmp_path: Path):
    audit = run.store.read(AUDIT)
    run.store.delete(AUDIT)
    try:
        said = publish(run, tmp_path / "out")
        assert any(line.startswith("note: the card has no audit of this dataset") for line in said)
    finally:
        run.store.put(AUDIT, audit)
    assert "Neither was measured" in (tmp_path / "out/README.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    said = publish(run, tmp_path / "out", **TOLD)
    assert len(said) == 1
    assert "| independent judge |" in (tmp_path / "out/README.md").read_text()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not (tmp_path / "out/.export").exists()
    done = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=tmp_path / "out", check=False)
    assert done.returncode == 0


def test_before_an_audit_the_card_quotes_the_report(tmp_path: Path):
    run = finished_run(tmp_path / "run")
    write_color_report(run)
    publish(run, tmp_path / "out")
    found = run.get_json(SEPARATION)["images"]
    text = (tmp_path / "out/README.md").read_text()
    judge = found["by_judge"]
    rate = f"{judge['equal_error_rate']:.2%}"
    assert f"| independent judge | {judge['identities']} | {rate} | {judge['to_centre']['mean']:.3f} |" in text
    assert f"{found['count']} images of whole identities" in text
    assert "Not measured: whether faces copy real ones" in text
    run.put_json(SEPARATION, {"images": {}})
    with pytest.raises(
        RunError, match=r"separation\.json: has no .*; restore it, or move it away and run its job again"
    ):
        publish(run, tmp_path / "out")


def test_a_name_that_a_model_gave_is_no_markup_in_the_card_of_a_dataset():
    index = {"control": {"<img src=x>|`a`\n[b](c)": {"met": 1, "not_met": 2}, "eye_open": {"met": 3, "not_met": 0}}}
    first, second = card._steered(index).splitlines()
    escaped = "&#60;img src&#61;x&#62;&#124;&#96;a&#96; &#91;b&#93;&#40;c&#41;"
    assert first == f"| steered to a target, {escaped} | met by 1 of 3 images as stored |"
    assert second == "| steered to a target, eye_open | met by 3 of 3 images as stored |"


def test_a_card_tells_near_duplicates_that_nobody_looked_for_from_none(tmp_path: Path):
    for distance in (0, 1):
        run = color_run(tmp_path / f"run{distance}", f"synthesis.min_hash_distance={distance}")
        make_dataset(run)
        publish(run, tmp_path / f"out{distance}")
        count = json.loads((tmp_path / f"out{distance}/export.json").read_text())["duplicates_left_out"]
        assert (
            f"that were left out: {count if distance else 'not looked for'}.\n"
            in (tmp_path / f"out{distance}/README.md").read_text()
        )


def test_an_audit_of_another_dataset_is_not_this_ones(run: Run, tmp_path: Path):
    audit = run.get_json(AUDIT)
    try:
        run.put_json(AUDIT, {**audit, "asked": {**audit["asked"], "dataset": "0" * 64}})
        publish(run, tmp_path / "out")
        assert "Neither was measured" in (tmp_path / "out/README.md").read_text()
        run.put_json(AUDIT, {**audit, "networks": {"judge": {}}})
        with pytest.raises(RunError, match=r"audit\.json: networks\.judge has no .*; restore it, or move"):
            publish(run, tmp_path / "out")
        run.store.put(AUDIT, b"{")
        with pytest.raises(RunError, match=r"audit\.json: is no JSON object"):
            publish(run, tmp_path / "out")
    finally:
        run.put_json(AUDIT, audit)


def test_no_text_that_is_given_is_taken_for_markup(tmp_path: Path):
    run = color_run(tmp_path / "run")
    make_dataset(run)
    name = "Faces\"' <script>alert(1)</script> [x](javascript:y) `z` # - : |"
    publish(run, tmp_path / "out", name=name, creator=name)
    assert front(tmp_path / "out")["pretty_name"] == name
    text = (tmp_path / "out/README.md").read_text().split("---\n", 2)[2]
    assert "<script" not in text
    assert "[x](" not in text
    assert json.loads((tmp_path / "out/croissant.json").read_text())["creator"]["name"] == name


@pytest.mark.parametrize(
    ("keys", "expected", "words"),
    [
        ((), ("apache-2.0", ""), "toy world: Apache-2.0"),
        (("synthesis.generator=vec2face",), ("other", "terms-of-the-models"), "trained on"),
        (("recognizer.kind=onnx",), ("other", "terms-of-the-models"), "InsightFace's published models"),
        (("recognizer.kind=onnx", "synthesis.generator=arc2face"), ("other", "non-commercial-research"), "RAIL-M"),
    ],
)
def test_the_licence_is_that_of_the_models(keys: tuple[str, ...], expected: tuple[str, str], words: str):
    made = config.Config()
    for key in keys:
        section, name, value = key.replace("=", ".", 1).split(".")
        made = replace(made, **{section: replace(getattr(made, section), **{name: value})})
    found = licences.chosen(made)
    assert (found.id, found.name) == expected
    assert words in found.models
    free = replace(made, publish=config.PublishConfig(license="cc-by-4.0"))
    assert licences.chosen(free).id == "cc-by-4.0"
    assert bool(licences.warning(free)) == bool(keys)
    assert not licences.warning(replace(made, publish=config.PublishConfig(license="cc-by-nc-4.0")))


def test_a_generator_of_unknown_terms_is_under_no_licence_of_ours():
    other = replace(config.Config(), synthesis=replace(config.Config().synthesis, generator="mine"))  # type: ignore[arg-type] # of no value
    with pytest.raises(AssertionError):
        licences.licence(other)
    assert needs_files(other)


def test_what_is_said_of_a_dataset_is_what_the_command_says_now(run: Run, tmp_path: Path):
    assert to_publish(str(run), ["publish.creator=Me", "storage.patience_s=1"]).config.publish.creator == "Me"
    (tmp_path / "c.yaml").write_text(f"run: {{dir: {run}}}\npublish: {{name: Yours}}\n")
    assert to_publish(str(tmp_path / "c.yaml"), []).config.publish.name == "Yours"
    with pytest.raises(ConfigError, match=r"only storage\.\* keys apply"):
        to_publish(str(run), ["synthesis.beta=1"])


@pytest.mark.parametrize("word", ["license=CC BY", "url=ftp://x", "url=https://me:pw@host/x", "name=", "creator=a\nb"])
def test_what_cannot_be_published_is_refused(word: str):
    with pytest.raises(ConfigError, match=rf"publish\.{word.partition('=')[0]} must") as error:
        config.load(None, ["run.dir=runs/x", f"publish.{word}"])
    assert "pw" not in str(error.value)


def test_a_title_of_any_letters_is_read_back_as_it_was_written():
    head = card.front_matter('Faces \N{GRINNING FACE} "1: 2"', "apache-2.0", "", 5, "data/*.parquet")
    assert yaml.safe_load(head.strip("-"))["pretty_name"] == 'Faces \N{GRINNING FACE} "1: 2"'
    assert "https://" not in card.plain("see https://example.com")
    assert "www." not in card.plain("see www.example.com")


def test_a_card_tells_what_decided_the_bytes_and_nothing_that_had_no_say():
    parts = {
        "synthesis.generator": "toy_render",
        "arc2face.precision": "float16",
        "run.seed": 0,
        "recognizer.sha256": "",
    }
    assert card.rows(parts) == "| `run.seed` | `0` |\n| `synthesis.generator` | `toy_render` |"
    assert "| `arc2face.precision` | `float16` |" in card.rows({**parts, "synthesis.generator": "arc2face"})
