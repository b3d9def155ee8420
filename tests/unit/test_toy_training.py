"""The job that makes the toy weights runs from end to end, and continues where it was stopped."""

from dataclasses import replace

from hyperface.models.toy.measure import measure
from hyperface.models.toy.training import FAST_PLAN, train_all

PLAN = replace(FAST_PLAN, recognizer_faces=(2, 3), judge_faces=(2, 3), generator_faces=(2, 3))


def test_two_steps_of_every_stage_give_weights_that_load_and_are_not_made_twice(tmp_path):
    train_all(tmp_path, PLAN)
    first = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    (tmp_path / "inverter.safetensors").unlink()
    train_all(tmp_path, PLAN)
    second = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == ["inverter.safetensors"]
    numbers = measure(tmp_path, identities=2, check=False)
    assert 0.0 <= numbers["recognizer_accuracy"] <= 1.0
    assert numbers["diffusion_generator_images_per_second"] > 0.0
