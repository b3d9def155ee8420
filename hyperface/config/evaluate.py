"""The section `evaluate`: the model that is verified, and the benchmarks."""

from dataclasses import dataclass
from typing import Literal

from hyperface.config.fields import Rules, file_rules, knob, number


@dataclass(frozen=True)
class EvaluateConfig:
    model: Literal["trained", "recognizer", "judge", "onnx"] = "trained"
    """Model whose embeddings are verified: the training `train.name` of this run, the run's recogniser, its judge, or
    the file `evaluate.path`."""
    path: str = knob("")
    """An ONNX file; required for evaluate.model=onnx."""
    sha256: str = ""
    """Expected SHA-256 of the file; required for evaluate.model=onnx."""
    color_order: Literal["RGB", "BGR"] = "RGB"
    """Order of the channels that evaluate.model=onnx takes. InsightFace's take RGB, AdaFace's BGR."""
    pixel_mean: float = 127.5
    """Number that is subtracted from each grey level, for evaluate.model=onnx."""
    pixel_std: float = number(127.5, above=0)
    """Number by which the difference is divided, for evaluate.model=onnx."""
    benchmarks: list[str] = knob([])
    """Sets to verify on: `toy` (the toy world's held-out sets), files of InsightFace's form (lfw.bin), or lists of
    pairs (pairs.txt, LFW's form or `path path 0|1` a line) beside the images they name. Empty, as is evaluate.ijb: the
    toy world's sets, where the network takes their 64x64 images."""
    ijb: list[str] = knob([])
    """Folders of IJB-B or IJB-C: `loose_crop/` and `meta/`, as InsightFace distributes them."""
    batch_size: int = knob(64, at_least=1)
    """Images per forward pass."""
    gpus: float = knob(0.0, at_least=0)
    """GPUs that the evaluation, or the audit, reserves for what is not shared among actors."""


def evaluate_rules(e: EvaluateConfig) -> Rules:
    yield from file_rules("evaluate.", e.path, e.sha256, needed=e.model == "onnx", when="when evaluate.model=onnx")
