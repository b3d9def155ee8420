"""Lists of pairs beside their images: LFW's own form, and paths with a label."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hyperface.config import StorageConfig
from hyperface.errors import RunError
from hyperface.storage import LocalStore
from hyperface.verification.benchmarks import read_benchmark, read_pairs
from hyperface.verification.pair_set import PairSet, shown


def put_picture(path: Path, shade: int) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(file, "PNG" if path.suffix == ".png" else "JPEG", quality=95)
    path.write_bytes(file.getvalue())


def read(folder: Path, text: str, name: str = "pairs.txt") -> PairSet:
    (folder / name).write_text(text)
    return read_benchmark(str(folder / name), StorageConfig())


def shades(pairs: PairSet) -> list[tuple[int, int, bool]]:
    """(shade, shade, same) of each pair, as the pictures show them."""
    images = np.concatenate(list(pairs.batches(2)))[:, 0, 0, 0].round(-1).tolist()
    found = zip(pairs.first_P, pairs.second_P, pairs.same_P, strict=True)
    return [(images[a], images[b], bool(same)) for a, b, same in found]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    put_picture(tmp_path / "Ann_Lee/Ann_Lee_0001.jpg", 10)
    put_picture(tmp_path / "Ann_Lee/Ann_Lee_0002.jpg", 20)
    put_picture(tmp_path / "Bo/Bo_0001.png", 110)
    put_picture(tmp_path / "Bo/Bo_0012.jpg", 120)
    return tmp_path


def test_lfws_own_form_is_read_in_the_order_of_its_folds(people: Path) -> None:
    text = "2\t1\nAnn_Lee\t1\t2\nAnn_Lee\t1\tBo\t1\nBo\t1\t12\nBo\t12\tAnn_Lee\t2\n"
    pairs = read(people, text)
    assert shades(pairs) == [(10, 20, True), (10, 110, False), (110, 120, True), (120, 20, False)]
    assert pairs.name == "pairs"


def test_lfws_development_form_promises_its_pairs_once(people: Path) -> None:
    assert len(read(people, "1\nBo\t1\t12\nBo\t12\tAnn_Lee\t2\n").same_P) == 2


@pytest.mark.parametrize("separator", [" ", "\t", ","])
def test_paths_with_a_label_are_read(people: Path, separator: str) -> None:
    lines = [("Bo/Bo_0001.png", "./Bo/Bo_0012.jpg", "1"), ("Ann_Lee/Ann_Lee_0002.jpg", "Bo/Bo_0001.png", "0")]
    pairs = read(people, "\n".join(separator.join(line) for line in lines) + "\n\n", "my.csv")
    assert shades(pairs) == [(110, 120, True), (20, 110, False)]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1\nAnn_Lee\t1\t2\n", "holds 1 pairs, and must hold the 2"),
        ("1\nAnn_Lee\t1\t2\nAnn_Lee\t1\tBo\t2\n", r"pairs\.txt, line 3: .*Bo/Bo_0002\.jpg is no image"),
        ("1\nAnn_Lee\t1\nBo\t1\t12\n", "line 2: must be `name a b`"),
        ("1\nAnn_Lee\t1\ttwo\nBo\t1\t12\n", "line 2: .*'two'"),
        ("1\nAnn_Lee\t1\tAnn_Lee\t2\nBo\t1\t12\n", "line 2: names Ann_Lee twice"),
        ("Bo/Bo_0001.png Bo/Bo_0012.jpg 2\n", "line 1: must be `path path 1`"),
        ("Bo/Bo_0001.png 1\n", "line 1: must be `path path 1`"),
        ("Bo/Bo_0001.png ../Bo/Bo_0012.jpg 1\n", "line 1: .*is no image beside the list"),
        ("Bo/Bo_0001.png B\0o/Bo_0012.jpg 1\n", "line 1: .*is no image beside the list"),
        (f"Bo/Bo_0001.png {'B' * 5000}/Bo_0012.jpg 1\n", "line 1: .*is no image beside the list"),
        ("", "holds 0 pairs"),
        ("10\t300\n", "holds 0 pairs, and must hold the 6000"),
    ],
)
def test_what_is_wrong_with_a_list_is_named_by_its_line(people: Path, text: str, named: str) -> None:
    with pytest.raises(RunError, match=named):
        read(people, text)


@pytest.mark.parametrize("line", ["{0} Bo/Bo_0001.png 1", "{0} 1", "Bo {0} 12", "{0} 1 {0} 2"])
@pytest.mark.parametrize("first", ["", "1\n"])
def test_a_name_out_of_a_list_is_cut_and_shown_without_control_characters(people: Path, first: str, line: str) -> None:
    for name in ("\x1b[2J", "x" * 5000):
        with pytest.raises(RunError) as error:
            read(people, f"{first}{line.format(name)}\n")
        assert "\x1b" not in str(error.value)
        assert len(str(error.value).replace(str(people), "")) < 400


def test_a_mark_at_the_beginning_of_a_list_is_no_part_of_it(people: Path) -> None:
    for text in ("\ufeff1\nBo\t1\t12\nBo\t12\tAnn_Lee\t2\n", "\ufeffBo/Bo_0001.png,Bo/Bo_0012.jpg,1\n"):
        (people / "pairs.txt").write_text(text, encoding="utf-8")
        pairs = read_benchmark(str(people / "pairs.txt"), StorageConfig())
        assert shades(pairs)[0] == (110, 120, True)


def test_only_folders_that_a_list_names_are_looked_into(people: Path) -> None:
    listed = []

    class Watched(LocalStore):
        def list(self, prefix: str = "") -> dict[str, int]:
            listed.append(prefix)
            return super().list(prefix)

    put_picture(people / "top.png", 50)
    (people / "pairs.txt").write_text("Bo/Bo_0001.png Bo/Bo_0012.jpg 1\ntop.png Ann_Lee/Ann_Lee_0001.jpg 0\n")
    pairs = read_pairs(Watched(str(people)), "pairs.txt")
    assert shades(pairs) == [(110, 120, True), (50, 10, False)]
    assert sorted(listed) == ["Ann_Lee", "Bo"]


def test_a_broken_image_is_named_by_its_path(people: Path) -> None:
    whole = (people / "Bo/Bo_0012.jpg").read_bytes()
    (people / "Bo/Bo_0012.jpg").write_bytes(whole[: len(whole) - 40])
    pairs = read(people, "1\nBo\t1\t12\nBo\t12\tAnn_Lee\t2\n")
    with pytest.raises(RunError, match=r"Bo/Bo_0012\.jpg: cannot be decoded"):
        list(pairs.batches(8))


def test_endings_of_others_are_found_in_any_case(people: Path) -> None:
    (people / "Bo/Bo_0012.jpg").rename(people / "Bo/Bo_0012.JPG")
    (people / "Ann_Lee/Ann_Lee_0002.jpg").rename(people / "Ann_Lee/Ann_Lee_0002.jfif")
    assert shades(read(people, "1\nBo\t1\t12\nBo\t12\tAnn_Lee\t2\n")) == [(110, 120, True), (120, 20, False)]


def test_people_behind_links_are_found_and_a_pipe_is_no_image(people: Path) -> None:
    (people / "Cy").symlink_to(people / "Bo")
    os.mkfifo(people / "Bo/pipe.png")
    assert shades(read(people, "Cy/Bo_0012.jpg Bo/Bo_0001.png 1\n")) == [(120, 110, True)]
    with pytest.raises(RunError, match=r"Bo/pipe\.png is no image beside the list"):
        read(people, "Bo/pipe.png Bo/Bo_0001.png 1\n")


def test_an_image_that_goes_meanwhile_is_named(people: Path) -> None:
    pairs = read(people, "1\nBo\t1\t12\nBo\t12\tAnn_Lee\t2\n")
    (people / "Bo/Bo_0012.jpg").unlink()
    with pytest.raises(RunError, match=r"Bo/Bo_0012\.jpg: is gone"):
        list(pairs.batches(8))


def test_a_list_that_is_no_text_is_refused(people: Path) -> None:
    (people / "pairs.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match=r"pairs\.txt: is no text"):
        read_benchmark(str(people / "pairs.txt"), StorageConfig())


def test_words_of_a_foreign_file_are_shown_without_letters_that_a_terminal_obeys():
    assert shown("J\u00fcrgen \x1b[2J \u202egpj") == r"Jürgen \x1b[2J \u202egpj"
