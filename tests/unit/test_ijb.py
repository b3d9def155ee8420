"""IJB's protocol on a folder of a few made-up faces, against the steps of InsightFace's script written out."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hyperface.config import StorageConfig
from hyperface.errors import ConfigError, RunError
from hyperface.models.alignment import ARCFACE_112, similarity, warp
from hyperface.models.protocols import Preprocessing
from hyperface.storage import open_store
from hyperface.verification import ijb

SIZE = 32
STORAGE = StorageConfig()
# (template, medium) of each face: medium 7 of template 20 is a video of three frames, seen elsewhere as well.
MEMBERS = [(20, 7), (10, 1), (20, 7), (20, 7), (20, 8), (30, 7), (40, 9), (30, 5)]
PAIRS = [(10, 20, 1), (20, 30, 0), (30, 40, 1), (10, 40, 0), (40, 20, 0)]


@dataclass(frozen=True)
class Patches:
    """The means of sixteen patches of a face, before they are brought to norm 1."""

    embedding_dim: int = 48
    image_size: int = SIZE
    fingerprint: str = "ab" * 32
    preprocessing: Preprocessing = Preprocessing()

    def features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        step = SIZE // 4
        means = images_BHWC.reshape(-1, 4, step, 4, step, 3).astype(np.float32).mean((2, 4))
        return means.reshape(len(images_BHWC), -1) - 100

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = self.features(images_BHWC)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "meta").mkdir()
    (tmp_path / "loose_crop").mkdir()
    members, points = [], []
    for number, (template, medium) in enumerate(MEMBERS, start=1):
        coarse = rng.integers(0, 256, (6, 6, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((50 + number, 60), Image.Resampling.BICUBIC)
        picture.save(tmp_path / f"loose_crop/{number}.jpg", quality=95)
        landmarks = ARCFACE_112 * 0.4 + rng.uniform(0, 6, 2) + rng.uniform(-1, 1, (5, 2))
        members.append(f"{number}.jpg {template} {medium}")
        points.append(f"{number}.jpg {' '.join(f'{v:.3f}' for v in landmarks.ravel())} {rng.uniform(0.5, 1):.4f}")
    write(tmp_path, "face_tid_mid", members)
    write(tmp_path, "name_5pts_score", points)
    write(tmp_path, "template_pair_label", [" ".join(map(str, pair)) for pair in PAIRS])
    return tmp_path


def write(folder: Path, what: str, lines: list[str]) -> None:
    (folder / f"meta/ijbc_{what}.txt").write_text("".join(line + "\n" for line in lines))


def lines(folder: Path, what: str) -> list[str]:
    return (folder / f"meta/ijbc_{what}.txt").read_text().splitlines()


def by_hand(folder: Path) -> dict[int, NDArray[np.float64]]:
    """{template: unit feature}: `image2template_feature` of InsightFace's ijb_11.py, with its loops."""
    features, recognizer = [], Patches()
    for line in lines(folder, "name_5pts_score"):
        image, *values = line.split()
        numbers = np.array(values, float)
        picture = np.asarray(Image.open(folder / "loose_crop" / image).convert("RGB"))
        crop = warp(picture, similarity(numbers[:10].reshape(5, 2), ARCFACE_112 * SIZE / 112), SIZE)
        both = recognizer.features(np.stack([crop, crop[:, ::-1]])).astype(float)
        features.append((both[0] + both[1]) * numbers[10])
    features, templates, media = np.array(features), *np.array(MEMBERS).T
    found = {}
    for template in np.unique(templates):
        own = templates == template
        means = [features[own][media[own] == medium].mean(axis=0) for medium in np.unique(media[own])]
        total = np.sum(means, axis=0)
        found[int(template)] = total / np.linalg.norm(total)
    return found


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_templates_are_those_of_insightfaces_script_whatever_the_batch(folder: Path, batch_size: int) -> None:
    store = open_store(str(folder))
    faces = ijb.read_faces(store, "ijbc")
    rows = ijb.template_features(store, faces, Patches(), batch_size, "ijbc")
    wanted = by_hand(folder)
    assert faces.templates_M.tolist() == sorted(wanted) == [10, 20, 30, 40]
    np.testing.assert_allclose(rows, np.stack([wanted[t] for t in sorted(wanted)]), atol=1e-5)


def test_landmarks_are_places_in_the_upright_image(folder: Path) -> None:
    def rows() -> NDArray[np.float32]:
        store = open_store(str(folder))
        return ijb.template_features(store, ijb.read_faces(store, "ijbc"), Patches(), 64, "ijbc")

    for path in sorted(folder.glob("loose_crop/*.jpg")):
        Image.open(path).save(path, "PNG")
    upright, exif = rows(), Image.Exif()
    exif[274] = 6  # the camera lay on its side
    for path in sorted(folder.glob("loose_crop/*.jpg")):
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path, "PNG", exif=exif)
    np.testing.assert_array_equal(rows(), upright)


def test_an_image_that_goes_meanwhile_is_named(folder: Path) -> None:
    store = open_store(str(folder))
    faces = ijb.read_faces(store, "ijbc")
    (folder / faces.images[3]).unlink()
    with pytest.raises(RunError, match=rf"{faces.images[3]}: is gone"):
        ijb.template_features(store, faces, Patches(), 64, "ijbc")


def test_a_folder_is_measured_over_its_own_pairs_and_has_no_accuracy(folder: Path) -> None:
    found = ijb.verify_on(str(folder), STORAGE, Patches(), 4)
    assert (found["name"], found["pairs"], found["genuine"], found["impostors"]) == ("ijbc", 5, 2, 3)
    assert (found["images"], found["templates"]) == (8, 4)
    assert (found["accuracy"], found["reasons"]) == (None, {})
    features = by_hand(folder)
    cosines = [float(features[a] @ features[b]) for a, b, _ in PAIRS]
    accepted = min(cosines[0], cosines[2])
    far = np.mean([cosine >= accepted for cosine in np.array(cosines)[[1, 3, 4]]])
    at_all = [f for f, t in zip(found["roc"]["far"], found["roc"]["tar"], strict=True) if t == 1]
    assert min(at_all) == pytest.approx(far)
    assert found["tar_at_far"]["1e-4"] == {"tar": None, "reason": "not measurable (3 impostors)"}


def test_a_long_list_of_pairs_is_read_in_parts_and_the_wrong_line_of_it_named(folder: Path) -> None:
    many = [f"{a} {b} {same}" for a, b, same in PAIRS * 40]
    write(folder, "template_pair_label", many)
    templates = np.array([10, 20, 30, 40])
    first, second, same = ijb.read_pairs(open_store(str(folder)), "ijbc", templates, chunk=50)
    assert [*zip(templates[first], templates[second], same.astype(int), strict=True)] == PAIRS * 40
    (folder / "meta/ijbc_template_pair_label.txt").write_text("\n".join(many))  # without the last end of line
    assert len(ijb.read_pairs(open_store(str(folder)), "ijbc", templates, chunk=50)[2]) == 200
    write(folder, "template_pair_label", [*many[:150], "10 99 1", *many[150:]])
    with pytest.raises(RunError, match=r"template_pair_label\.txt, line 151: names template 99"):
        ijb.read_pairs(open_store(str(folder)), "ijbc", templates, chunk=50)


def replaced(what: str, number: int, line: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        kept = lines(folder, what)
        kept[number - 1] = line
        write(folder, what, kept)

    return change


def cut_image(folder: Path) -> None:
    image = folder / "loose_crop/4.jpg"
    image.write_bytes(image.read_bytes()[:300])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (replaced("template_pair_label", 2, "10 20"), r"template_pair_label\.txt, line 2: must have 3 fields, has 2"),
        (replaced("template_pair_label", 2, "10 20 x"), r"template_pair_label\.txt, line 2: must hold numbers"),
        (
            replaced("template_pair_label", 5, "10 20 2"),
            r"pair_label\.txt, line 5: must end in 0 or 1, ends in 2",
        ),
        (replaced("template_pair_label", 1, "11 20 1"), r"line 1: names template 11, which has no face"),
        (replaced("template_pair_label", 1, f"1{'0' * 30} 20 1"), "line 1: must hold numbers"),
        (replaced("face_tid_mid", 3, "3.jpg 20"), r"face_tid_mid\.txt, line 3: must have 3 fields, has 2"),
        (replaced("face_tid_mid", 3, "3.jpg 20 b"), r"face_tid_mid\.txt, line 3: must hold numbers"),
        (replaced("face_tid_mid", 3, "4.jpg 20 7"), r"name_5pts_score\.txt, line 3: is of 3\.jpg, .* of 4\.jpg"),
        (replaced("name_5pts_score", 2, "2.jpg 1 2 3"), r"name_5pts_score\.txt, line 2: must have 12 fields, has 4"),
        (replaced("name_5pts_score", 2, f"2.jpg {'1 ' * 10} nan"), "line 2: must hold finite landmarks and a score"),
        (replaced("name_5pts_score", 2, f"2.jpg {'1 ' * 10} 0.9"), r"2\.jpg: its landmarks are no face's"),
        (lambda folder: (folder / "loose_crop/5.jpg").unlink(), r"line 5: names 5\.jpg, which is not in"),
        (lambda folder: (folder / "meta/ijbc_name_5pts_score.txt").unlink(), r"name_5pts_score\.txt: is missing"),
        (lambda folder: (folder / "meta/ijbc_template_pair_label.txt").unlink(), r"pair_label\.txt: is missing"),
        (lambda folder: write(folder, "template_pair_label", []), "holds no pairs"),
        (
            lambda folder: write(folder, "name_5pts_score", lines(folder, "name_5pts_score")[:-1]),
            "must have as many lines",
        ),
        (cut_image, r"4\.jpg: cannot be decoded"),
    ],
)
def test_what_is_wrong_in_a_folder_is_named_by_file_and_line(
    folder: Path, change: Callable[[Path], None], named: str
) -> None:
    change(folder)
    with pytest.raises(RunError, match=named):
        ijb.verify_on(str(folder), STORAGE, Patches(), 3)


@pytest.mark.parametrize("what", ["face_tid_mid", "name_5pts_score"])
def test_a_name_out_of_a_folder_is_shown_without_control_characters(folder: Path, what: str) -> None:
    replaced(what, 3, lines(folder, what)[2].replace("3.jpg", "\x1b[2J"))(folder)
    with pytest.raises(RunError, match=r"is of .*\\x1b\[2J") as error:
        ijb.verify_on(str(folder), STORAGE, Patches(), 3)
    assert "\x1b" not in str(error.value)


def test_the_benchmark_is_told_from_the_names_of_its_files(folder: Path, tmp_path: Path) -> None:
    assert ijb.name_of(str(folder), STORAGE) == "ijbc"
    for file in list((folder / "meta").iterdir()):
        file.rename(file.with_name(file.name.replace("ijbc", "ijbb")))
    assert ijb.name_of(str(folder), STORAGE) == "ijbb"
    (folder / "meta/ijbc_face_tid_mid.txt").touch()
    with pytest.raises(ConfigError, match="holds both"):
        ijb.name_of(str(folder), STORAGE)
    with pytest.raises(ConfigError, match="holds neither"):
        ijb.name_of(str(tmp_path / "loose_crop"), STORAGE)


def test_a_face_without_features_is_named(folder: Path) -> None:
    class Blind(Patches):
        def features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
            rows = super().features(images_BHWC)
            rows[0] = np.nan
            return rows

    with pytest.raises(RunError, match=r"1\.jpg: the recogniser has no embedding of it"):
        ijb.verify_on(str(folder), STORAGE, Blind(), 3)


def test_a_folder_on_s3_is_measured_like_one_on_disk(folder: Path, s3_endpoint: str, s3_bucket: str) -> None:
    storage = StorageConfig(endpoint_url=s3_endpoint)
    store = open_store(f"s3://{s3_bucket}/ijbc", storage)
    for file in (path for path in folder.rglob("*") if path.is_file()):
        store.put(file.relative_to(folder).as_posix(), file.read_bytes())
    there, here = (ijb.verify_on(path, storage, Patches(), 4) for path in (str(store), str(folder)))
    assert there["roc"] == here["roc"]


def test_pictures_are_read_as_rgb(folder: Path) -> None:
    file = io.BytesIO()
    Image.new("L", (60, 60), 200).save(file, "PNG")
    (folder / "loose_crop/1.jpg").write_bytes(file.getvalue())
    assert ijb.verify_on(str(folder), STORAGE, Patches(), 3)["images"] == 8
