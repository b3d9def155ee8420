"""Tables of real faces that an audit is given: each once, however its path is written."""

from pathlib import Path

import numpy as np
import pytest
from color_world import DIM, color_config, references

from hyperface.audit import real_faces
from hyperface.errors import ConfigError
from hyperface.faces.embeddings import Embeddings, to_parquet
from hyperface.run import Run, open_run
from hyperface.run.names import GALLERY


def run_against(folder: Path, *paths: str, protected: str = "") -> Run:
    """A run with a gallery, beside another one and a table."""
    against, keep = f"audit.against=[{','.join(paths)}]", [f"packing.protected={protected}"] if protected else []
    run = open_run(color_config(folder / "run", against, *keep))
    other = open_run(color_config(folder / "other"))
    for seed, each in enumerate((run, other)):
        each.store.put(GALLERY, to_parquet("key", Embeddings(["a", "b", "c"], references(3, seed))))
    np.save(folder / "few.npy", references(3, 2))
    return run


def test_the_same_table_is_refused_however_its_path_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "other")
    few, other = f"{tmp_path}/few.npy", f"{tmp_path}/other"
    for first, second in (
        (few, f"{tmp_path}/other/../few.npy"),
        (few, f"file://{few}"),
        (other, f"{other}/"),
        (other, f"{tmp_path}/link"),
        (other, f"{other}/{GALLERY}"),
    ):
        with pytest.raises(ConfigError, match=f"must name each table once; {second} is there twice; leave it out"):
            real_faces.given(run_against(tmp_path, first, second), DIM)


@pytest.mark.parametrize("path", ["run", "run/", f"run/{GALLERY}"])
def test_the_run_itself_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="is this run's gallery, which is compared anyway; leave it out"):
        real_faces.given(run_against(tmp_path, f"{tmp_path}/{path}"), DIM)


def test_what_is_protected_is_refused_beside_itself(tmp_path: Path) -> None:
    few = f"{tmp_path}/few.npy"
    with pytest.raises(ConfigError, match=r"is packing\.protected, which is compared anyway"):
        real_faces.given(run_against(tmp_path, few, protected=few), DIM)


def test_different_tables_are_taken_in_their_order(tmp_path: Path) -> None:
    paths = [f"{tmp_path}/other", f"{tmp_path}/few.npy"]
    found = real_faces.given(run_against(tmp_path, *paths), DIM)
    assert [faces.name for faces in found] == ["gallery", *paths]
