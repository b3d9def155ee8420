"""A killed export shows no half file, and the same command ends with the bytes of an undisturbed one."""

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import lmdb
import numpy as np
import pytest
from color_world import ColorGenerator, color_run, make_dataset

from hyperface.dataset.export import FORMATS, Kind, export_run
from hyperface.run import Run, existing_run
from hyperface.storage import LocalStore, open_store

BUDGET = 6_000
"""Bytes: a few shards of the small world, so that there are many spills, stretches and syncs."""

FORKS = multiprocessing.get_context("fork")
"""Processes that have imported what an export needs, and begin at once. Arrow makes its threads anew in them."""


class Exporting:
    """An export in a process of its own, which is killed when it touches its destination for the `kill_at`th time."""

    def __init__(self, run: Run, kind: Kind, folder: Path, kill_at: int = 0) -> None:
        self.touched = FORKS.Value("i", 0)
        self.process = FORKS.Process(target=self._export, args=(str(run), kind, str(folder), kill_at))
        self.process.start()

    def _export(self, run: str, kind: Kind, folder: str, kill_at: int) -> None:
        def count(event: str, arguments: tuple[object, ...]) -> None:
            if event in ("open", "os.rename") and str(arguments[0]).startswith(folder):
                self.touched.value += 1
                if self.touched.value == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        export_run(existing_run(run), kind, open_store(folder), say=lambda line: None, budget=BUDGET)

    def ended(self) -> int | None:
        """Return its exit code, when it has ended."""
        self.process.join()
        return self.process.exitcode


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    overrides = ["packing.num_identities=12", "synthesis.images_per_identity=10", "synthesis.max_attempts=1"]
    run = color_run(tmp_path_factory.mktemp("run") / "run", *overrides)
    make_dataset(run, ColorGenerator(miss_every=6))
    return run


@pytest.fixture(scope="module")
def quiet(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, tuple[Path, int]]:
    """{format: (an undisturbed export, how often it touched its destination)}"""
    root = tmp_path_factory.mktemp("quiet")
    exports = {kind: Exporting(run, kind, root / kind) for kind in FORMATS}
    assert {export.ended() for export in exports.values()} == {0}
    return {kind: (root / kind, export.touched.value) for kind, export in exports.items()}


def tree(folder: Path) -> dict[str, bytes]:
    """{name: bytes} of what a reader sees; of LMDB the content, because its pages tell the story of their writing."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".export" not in path.parts]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    if "data.mdb" in found:
        with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
            found["data.mdb"] = repr(list(transaction.cursor())).encode()
    if "export.json" in found:
        found["export.json"] = b"\n".join(line for line in found["export.json"].split(b"\n") if b"data.mdb" not in line)
    return found


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_killed_export_shows_nothing_half_and_goes_on_to_the_same_bytes(
    run: Run, quiet, tmp_path: Path, kind: Kind, share: float
):
    whole, touched = quiet[kind]
    assert Exporting(run, kind, tmp_path / "out", max(1, int(touched * share))).ended() == -signal.SIGKILL
    seen = tree(tmp_path / "out")
    assert seen == tree(whole) if "export.json" in seen else seen.items() <= tree(whole).items()
    export_run(run, kind, open_store(str(tmp_path / "out")), say=lambda line: None, budget=BUDGET)
    assert tree(tmp_path / "out") == tree(whole)
    assert not (tmp_path / "out/.export").exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_that_is_killed_again_and_again_ends_with_the_same_bytes(run: Run, quiet, tmp_path: Path, kind: Kind):
    whole, touched = quiet[kind]
    deaths, share = 0, 0.8 if kind == "recordio" else 0.5  # the last part of recordio is all of train.rec
    while Exporting(run, kind, tmp_path / "out", int(touched * share)).ended() == -signal.SIGKILL:
        deaths += 1
        assert deaths < 12, "an attempt must go on where the one before it stopped"
    assert deaths >= (1 if kind == "recordio" else 2)
    assert tree(tmp_path / "out") == tree(whole)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_that_is_killed_at_random_times_ends_with_the_same_bytes(run: Run, quiet, tmp_path: Path, kind: Kind):
    whole, _ = quiet[kind]
    for milliseconds in np.random.default_rng().uniform(0, 60, 6):
        child = Exporting(run, kind, tmp_path / "out").process
        while child.is_alive() and not (tmp_path / "out").exists():
            pass
        child.join(milliseconds / 1000)
        child.kill()
        child.join()
        seen = tree(tmp_path / "out")
        assert seen == tree(whole) if "export.json" in seen else seen.items() <= tree(whole).items()
    export_run(run, kind, open_store(str(tmp_path / "out")), say=lambda line: None, budget=BUDGET)
    assert tree(tmp_path / "out") == tree(whole)


@dataclass(frozen=True)
class CountingStore(LocalStore):
    reads: list[str] = field(default_factory=list)

    def read(self, name: str) -> bytes:
        self.reads.append(name)
        return super().read(name)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_done_is_not_read_again(run: Run, quiet, tmp_path: Path, kind: Kind):
    Exporting(run, kind, tmp_path / "out", int(quiet[kind][1] * 0.6)).ended()
    store = CountingStore(run.store.url)
    export_run(replace(run, store=store), kind, open_store(str(tmp_path / "out")), lambda line: None, BUDGET)
    read = [name for name in store.reads if name.endswith(".parquet")]
    assert len(read) == len(set(read)) <= 10, read
    assert run.get_json("dataset/index.json")["shards"][14]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_whole_export_is_found_done_without_reading_an_image(run: Run, quiet, kind: Kind):
    store = CountingStore(run.store.url)
    before = {path: path.stat().st_mtime_ns for path in quiet[kind][0].rglob("*")}
    said: list[str] = []
    done = export_run(replace(run, store=store), kind, open_store(str(quiet[kind][0])), said.append)
    assert not [name for name in store.reads if name.endswith(".parquet")]
    assert {path: path.stat().st_mtime_ns for path in quiet[kind][0].rglob("*")} == before
    assert done["images"] == existing_run(str(run)).get_json("dataset/index.json")["images"]
    assert len(said) == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_the_bytes_do_not_depend_on_the_memory_that_is_used(run: Run, quiet, tmp_path: Path, kind: Kind):
    export_run(run, kind, open_store(str(tmp_path / "out")), say=lambda line: None)
    if kind == "lmdb":
        assert (tmp_path / "out/data.mdb").read_bytes() == (quiet[kind][0] / "data.mdb").read_bytes()
    assert tree(tmp_path / "out") == tree(quiet[kind][0])
