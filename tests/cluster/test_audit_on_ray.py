"""The audit on Ray against the one in this process; and with actors that die."""

import os
import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import audited_run
import color_world
import finished_run
import numpy as np
import pytest
import ray
from audited_run import audited_run as new_run
from audited_run import auditor, put_faces
from color_world import ColorRecognizer
from finished_run import ColorJudge
from numpy.typing import NDArray

from cluster.audit import audit_stage
from hyperface.audit.auditor import Auditor, audit_here
from hyperface.dataset.source import Source
from hyperface.errors import RunError
from hyperface.run import Run, existing_run
from hyperface.run.names import AUDIT, AUDIT_EMBEDDINGS, AUDIT_FACES

# The workers have no path to the tests.
for module in (audited_run, color_world, finished_run, sys.modules[__name__]):
    ray.cloudpickle.register_pickle_by_value(module)

pytestmark = pytest.mark.usefixtures("ray_cluster")


@dataclass(frozen=True)
class FragileRecognizer(ColorRecognizer):
    """Ends its process at the first batch that it sees after `flag` was put there, and takes the flag with it."""

    flag: str = ""
    for_ever: bool = False

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        if os.path.exists(self.flag):
            if not self.for_ever:
                os.unlink(self.flag)
            os._exit(1)
        return super().embed(images_BHWC)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    put_faces(folder / "faces")
    new_run(folder / "run", folder / "faces", "audit.num_actors=2")
    return folder / "run"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Run:
    shutil.copytree(whole, tmp_path / "run")
    return existing_run(str(tmp_path / "run"))


def auditor_of(source: Source) -> Auditor:
    return Auditor(source, {"recognizer": ColorRecognizer(), "judge": ColorJudge()})


def test_actors_make_the_audit_that_one_process_makes(run: Run, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "alone")
    alone = existing_run(str(tmp_path / "alone"))
    audit_here(auditor(alone))
    audit_stage(run, auditor_of)
    for name in (AUDIT, AUDIT_FACES):
        assert run.store.read(name) == alone.store.read(name)
    names = run.store.list(AUDIT_EMBEDDINGS)
    assert names == alone.store.list(AUDIT_EMBEDDINGS)
    assert all(run.store.read(name) == alone.store.read(name) for name in names if name.endswith(".npy"))


def test_the_same_again_finds_it_done(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    audit_stage(run, auditor_of)
    audit_stage(run, auditor_of)
    assert re.search(r"audit: done, .*evaluation/audit\.json", capsys.readouterr().out)
    assert len(run.records("audit")) == 1


def test_an_actor_that_dies_is_started_again(run: Run, tmp_path: Path) -> None:
    flag = tmp_path / "flag"

    def fragile(source: Source) -> Auditor:
        return Auditor(source, {"recognizer": FragileRecognizer(flag=str(flag)), "judge": ColorJudge()})

    flag.touch()
    audit_stage(run, fragile)
    assert not flag.exists()
    assert run.get_json(AUDIT)["networks"]["recognizer"]["images"] == 30


def test_actors_that_die_for_ever_end_the_job(run: Run, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()

    def doomed(source: Source) -> Auditor:
        recognizer = FragileRecognizer(flag=str(flag), for_ever=True)
        return Auditor(source, {"recognizer": recognizer, "judge": ColorJudge()})

    bounded = replace(run, config=replace(run.config, audit=replace(run.config.audit, max_failures=1)))
    with pytest.raises(RunError, match="audit: actors died too often"):
        audit_stage(bounded, doomed)
    assert not run.store.exists(AUDIT)


def test_what_an_actor_refuses_reaches_the_user_as_it_was_said(run: Run) -> None:
    def larger(source: Source) -> Auditor:
        return Auditor(source, {"recognizer": ColorRecognizer(), "judge": ColorJudge(image_size=32)})

    with pytest.raises(RunError, match="holds images of 16x16 pixels, and the network takes 32x32"):
        audit_stage(run, larger)
