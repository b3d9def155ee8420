"""What is wrong with the models of the synthesis is said before anything is embedded or packed."""

from pathlib import Path

import color_world
import pytest
import ray
from color_world import ColorGenerator, ColorRecognizer, put_references, references

from cluster.preflight import try_models
from hyperface.config import Config
from hyperface.config import load as load_config
from hyperface.models.protocols import ModelError, Models
from hyperface.run import Run, RunError, open_run

pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(300)]
ray.cloudpickle.register_pickle_by_value(color_world)


def begun(folder: Path) -> Run:
    """A run whose generator is a file that is not there."""
    missing = (f"vec2face.path={folder}/missing.safetensors", f"vec2face.sha256={'5e' * 32}")
    return open_run(load_config(None, [f"run.dir={folder}/run", "synthesis.generator=vec2face", *missing]))


def test_a_file_that_a_worker_lacks_is_named(tmp_path: Path):
    run = begun(tmp_path)
    with pytest.raises(ModelError, match=r"missing.safetensors"):
        try_models(run)


def test_models_that_do_not_fit_each_other_are_refused(tmp_path: Path):
    def misfits(_: Config) -> Models:
        return Models(ColorGenerator(embedding_dim=128), ColorRecognizer())

    with pytest.raises(RunError, match=r"^synthesis.generator=vec2face: takes embeddings of 128 numbers; the recog"):
        try_models(begun(tmp_path), misfits)


def test_models_that_fit_are_let_through_and_their_process_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def told(config: Config) -> Models:
        (tmp_path / "process").write_text(str(ray.get_runtime_context().get_worker_id()))
        return color_world.make_models(config)

    try_models(begun(tmp_path), told)
    assert "the models of the synthesis load and fit" in capsys.readouterr().out
    first = (tmp_path / "process").read_text()
    try_models(begun(tmp_path), told)
    assert (tmp_path / "process").read_text() != first


def test_a_run_that_is_packed_goes_on_without_it(tmp_path: Path):
    run = begun(tmp_path)
    put_references(run.store, references(6))
    try_models(run)
