"""Configurations that load a model from a file that does not ship with the code."""

import pytest

from hyperface import config as configuration
from hyperface.models.loading import needs_files

SHA = "5e" * 32
DETECTOR = ("synthesis.detector_path=d.onnx", f"synthesis.detector_sha256={SHA}")
JUDGE = ("judge.kind=onnx", "judge.path=j.onnx", f"judge.sha256={SHA}")
READER = ("control.attributes=onnx", "control.attribute_path=a.onnx", f"control.attribute_sha256={SHA}")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), False),
        (("control.targets.yaw=[0]", "synthesis.generator=toy_diffusion"), False),
        (("synthesis.generator=vec2face", "vec2face.path=v.safetensors", f"vec2face.sha256={SHA}"), True),
        (("recognizer.kind=onnx", "recognizer.path=r.onnx", f"recognizer.sha256={SHA}", "embed.source=faces"), True),
        (JUDGE, False),
        ((*JUDGE, "synthesis.min_judge_cosine=0.3"), True),
        (("synthesis.alignment=landmarks", *DETECTOR), True),
        (("synthesis.alignment=template",), False),
        ((*READER, "control.targets.yaw=[0]", "synthesis.generator=toy_diffusion"), True),
    ],
)
def test_a_file_is_needed_where_a_model_that_is_loaded_is_one(words: tuple[str, ...], wanted: bool):
    assert needs_files(configuration.load(None, ["run.dir=unused", *words])) is wanted
