"""Refusals of an export: runs that are not whole, shards that are damaged, destinations that hold something else."""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from color_world import ColorGenerator, color_run, make_dataset
from commands import ran

from hyperface.dataset import Sample, jpeg, webdataset
from hyperface.dataset.commit import record
from hyperface.dataset.export import FORMATS, Kind, export_run
from hyperface.dataset.marker import Marker
from hyperface.errors import ConfigError, RunError, StorageError
from hyperface.run import Run, existing_run
from hyperface.run.names import INDEX
from hyperface.storage import S3Store, open_store

TAR, DONE = "dataset/webdataset/shard-000001.tar", "dataset/_done/shard-000001.json"
FINISH = "run `python -m jobs.pipeline .*` first"
MEND = "mend it with `python -m jobs.synthesize .*config.yaml synthesis.repair=true`"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    make_dataset(color_run(path, "dataset.format=webdataset"), ColorGenerator(miss_every=2))
    return path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Run:
    shutil.copytree(whole, tmp_path / "run")
    return existing_run(str(tmp_path / "run"))


def export(run: Run, folder: Path, kind: Kind = "imagefolder") -> None:
    export_run(run, kind, open_store(str(folder)), say=lambda line: None)


def append(name: str, garbage: bytes) -> Callable[[Run], None]:
    return lambda run: run.store.put(name, run.store.read(name) + garbage)


def remove(name: str) -> Callable[[Run], None]:
    return lambda run: run.store.delete(name)


def edit(name: str, old: str, new: str) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        text = run.store.read(name).decode()
        assert old in text
        run.store.put(name, text.replace(old, new, 1).encode())

    return change


def add_duplicate(run: Run) -> None:
    run.put_json(INDEX, {**run.get_json(INDEX), "duplicates": ["0000099-0000"]})


NOT_WHOLE = {
    "no index": (remove(INDEX), f"index.json: is missing: the dataset is not finished; {FINISH}"),
    "no marker": (remove(DONE), f"index.json: is there, but not done of 4 shards: 1; {FINISH}"),
    "no shard": (
        remove(TAR),
        f"damaged shards: 1; {MEND}\n.*shard-000001.tar: is missing although its marker is there",
    ),
    "no fingerprint": (remove("dataset/fingerprint.json"), "fingerprint.json: is missing"),
    "marker of another run": (edit(DONE, '"fingerprint": "', '"fingerprint": "0'), "shard-000001.json: was made with"),
    "index of another run": (edit(INDEX, '"fingerprint": "', '"fingerprint": "0'), "does not say what the markers say"),
    "cut index": (edit(INDEX, "{", ""), "index.json: cannot be read"),
    "index of other files": (edit(INDEX, "shard-000001.tar", "shard-000009.tar"), "does not say what the markers say"),
    "strange duplicate": (add_duplicate, "duplicates names '0000099-0000'"),
    "longer shard": (append(TAR, b"x"), f"{MEND}\n.*shard-000001.tar: must have the .* bytes of its marker"),
}


@pytest.mark.parametrize("case", NOT_WHOLE)
def test_a_run_that_is_not_finished_and_whole_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path, case: str
):
    damage, problem = NOT_WHOLE[case]
    damage(run)
    with pytest.raises(RunError, match=problem):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def flip(run: Run) -> None:
    data = bytearray(run.store.read(TAR))
    data[len(data) // 2] ^= 1
    run.store.put(TAR, bytes(data))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_shard_is_named_and_the_export_goes_on_when_it_is_mended(run: Run, tmp_path: Path, kind: Kind):
    good = run.store.read(TAR)
    flip(run)
    with pytest.raises(RunError, match=f"{TAR}: must have the SHA-256 of its marker, .*; {MEND}"):
        export(run, tmp_path / "out", kind)
    assert not (tmp_path / "out/export.json").exists()
    assert not (tmp_path / "out/data.mdb").exists()
    assert not (tmp_path / "out/train.rec").exists()
    run.store.put(TAR, good)
    export(run, tmp_path / "out", kind)
    assert (tmp_path / "out/export.json").exists()


def believe(run: Run, data: bytes) -> None:
    """Give shard 1 other bytes, and a marker and an index that believe them."""
    run.store.put(TAR, data)
    marker = Marker.from_bytes(run.store.read(DONE), DONE)
    file = record(TAR, data)
    run.store.put(DONE, replace(marker, files=(file,)).to_bytes())
    index = run.get_json(INDEX)
    index["shards"][1]["files"] = [asdict(file)]
    run.put_json(INDEX, index)


@pytest.mark.parametrize("garbage", [b"\0", b"x" * 512, b"\0" * 10240], ids=["a byte", "a block", "a record of zeros"])
def test_a_tar_with_trailing_garbage_is_refused_by_name_even_where_its_marker_believes_it(
    run: Run, tmp_path: Path, garbage: bytes
):
    believe(run, run.store.read(TAR) + garbage)
    with pytest.raises(RunError, match=f"{TAR}: .*trailing bytes; {MEND}"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out/export.json").exists()


def test_a_shard_of_other_images_is_refused_by_name_even_where_its_marker_believes_it(run: Run, tmp_path: Path):
    believe(run, run.store.read("dataset/webdataset/shard-000000.tar"))
    with pytest.raises(RunError, match=f"{TAR}: must hold its planned keys in their order"):
        export(run, tmp_path / "out")


def test_images_of_two_sizes_are_refused_for_recordio_which_states_one(run: Run, tmp_path: Path):
    samples = []
    images = webdataset.from_bytes(run.store.read(TAR), TAR)
    for row, key in enumerate(images.keys):
        data = jpeg.encode(np.zeros((16, 24 if row == 2 else 16, 3), np.uint8), 95)
        numbers = images.identities[row], images.image_indices[row]
        samples.append(Sample(key, *numbers, data, images.seeds[row], 0, images.cosines[row], np.zeros(1, np.float32)))
    believe(run, webdataset.to_bytes(samples))
    with pytest.raises(RunError, match=r"images must have one size; .* has \(16, "):
        export(run, tmp_path / "out", "recordio")
    assert not (tmp_path / "out/train.rec").exists()


def foreign_file(folder: Path, run: Run) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("")


def other_format(folder: Path, run: Run) -> None:
    export(run, folder, "huggingface")


def other_run(folder: Path, run: Run) -> None:
    other = color_run(folder.parent / "other", "run.seed=5")
    make_dataset(other)
    export(other, folder)


def unfinished_other(folder: Path, run: Run) -> None:
    other_run(folder, run)
    (folder / ".export").mkdir()
    (folder / "export.json").rename(folder / ".export/begun.json")


def a_file(folder: Path, run: Run) -> None:
    folder.write_text("")


OCCUPIED = {
    foreign_file: "holds something else; give a directory that is empty",
    other_format: "an export of something else .format was huggingface, is now imagefolder.",
    other_run: "an export of something else .it was made of another dataset",
    unfinished_other: "an export of something else .it was made of another dataset",
    a_file: "is a file; give a directory",
}


@pytest.mark.parametrize("occupy", OCCUPIED, ids=lambda occupy: occupy.__name__)
def test_a_destination_that_holds_something_else_is_refused_and_left_as_it_is(
    run: Run, tmp_path: Path, occupy: Callable[[Path, Run], None]
):
    occupy(tmp_path / "out", run)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=OCCUPIED[occupy]):
        export(run, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_into_the_dataset_is_no_destination(run: Run, tmp_path: Path):
    (tmp_path / "link").symlink_to(run.store.uri("dataset"))
    with pytest.raises(ConfigError, match="lies in the dataset that is exported"):
        export(run, tmp_path / "link" / "out")


def test_the_dataset_itself_is_no_destination(run: Run):
    with pytest.raises(ConfigError, match="lies in the dataset that is exported"):
        export(run, Path(run.store.uri("dataset/imagefolder")))


@pytest.mark.parametrize("kind", ["recordio", "lmdb"])
def test_formats_that_are_written_at_random_are_refused_on_a_bucket(run: Run, kind: Kind):
    with pytest.raises(ConfigError, match=f"{kind} is written on a local disk.*or use imagefolder, huggingface"):
        export_run(run, kind, S3Store("s3://bucket/prefix"))


def test_a_second_export_to_the_same_place_is_refused(run: Run, tmp_path: Path):
    (tmp_path / "out/.export").mkdir(parents=True)
    with (tmp_path / "out/.export/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another export is writing here"):
            export(run, tmp_path / "out")


def test_a_disk_without_locks_is_refused_by_its_kind(tmp_path: Path):
    code = (
        "import errno, fcntl, sys\n"
        "from hyperface.dataset.export.destination import Destination\n"
        "from hyperface.storage import StorageError, open_store\n"
        "def refuse(*_): raise OSError(errno.ENOSYS, 'Function not implemented')\n"
        "fcntl.flock = refuse  # as a Lustre that is mounted without flock\n"
        "try:\n"
        "    with Destination(open_store(sys.argv[1]), {}, 1).begun(): pass\n"
        "except StorageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "knows no flock (Function not implemented)" in done.stdout, done.stderr
    assert done.stdout.endswith("mount it with flock, or export to another disk\n")


@pytest.mark.parametrize(("kind", "name"), [("recordio", "train.rec"), ("huggingface", "classes.csv")])
def test_a_whole_export_that_lost_a_file_or_its_end_is_not_called_done(run: Run, tmp_path: Path, kind: Kind, name: str):
    export(run, tmp_path / "out", kind)
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=f"{name}: has .* bytes, was exported with .*export again"):
        export(run, tmp_path / "out", kind)
    path.unlink()
    with pytest.raises(RunError, match=f"{name}: is missing"):
        export(run, tmp_path / "out", kind)


@pytest.mark.parametrize(("kind", "name"), [("recordio", "train.rec"), ("huggingface", "README.md")])
def test_a_full_disk_says_what_to_do_and_the_export_goes_on(run: Run, tmp_path: Path, kind: Kind, name: str):
    (tmp_path / "out/.export").mkdir(parents=True)
    in_the_making = tmp_path / f"out/.export/writing-{name}"
    in_the_making.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=f"{name}: cannot be written: No space left on device; free space"):
        export(run, tmp_path / "out", kind)
    assert not (tmp_path / "out" / name).exists()
    in_the_making.unlink()
    export(run, tmp_path / "out", kind)
    assert (tmp_path / "out/export.json").exists()


def test_the_job_exports_says_so_and_finds_it_done(run: Run, tmp_path: Path):
    command = [sys.executable, "-m", "jobs.export", str(run), "recordio", str(tmp_path / "out")]
    first = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    for done in (first, ran("jobs.export", *command[3:])):
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].endswith("images of 6 classes as recordio")
    assert (tmp_path / "out/train.rec").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("{run}", "zip", "{out}"), 2, "error: zip: is not a format; use one of imagefolder, recordio, lmdb, hugg"),
        (("{run}", "lmdb", "{out}", "synthesis.beta=1"), 2, "only storage.* keys apply"),
        (("{run}/nothing", "lmdb", "{out}"), 2, "holds no run"),
        (("{run}", "lmdb", "s3://bucket/lmdb"), 2, "lmdb is written on a local disk"),
        (("{run}", "lmdb", "ftp://host"), 2, "scheme 'ftp' is not supported"),
        (("{run}", "lmdb"), 2, ""),
    ],
)
def test_the_job_exits_2_for_bad_input(whole: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, line: str):
    done = ran("jobs.export", *(argument.format(run=whole, out=tmp_path / "out") for argument in arguments))
    assert done.returncode == code, done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_the_job_exits_1_for_a_run_that_is_not_finished(run: Run, tmp_path: Path):
    run.store.delete(INDEX)
    done = ran("jobs.export", str(run), "imagefolder", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not finished" in done.stderr
