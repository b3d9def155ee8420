"""The sections `recognizer` and `judge`: the two models that embed faces."""

from dataclasses import dataclass
from typing import Literal

from hyperface.config.fields import Rules, file_rules, knob


@dataclass(frozen=True)
class RecognizerConfig:
    kind: Literal["toy", "onnx"] = "toy"
    """`toy`: the shipped recogniser of the toy world; `onnx`: an ArcFace-style model from `recognizer.path`."""
    path: str = knob("")
    """The ONNX file. InsightFace's published models are licensed for non-commercial research only."""
    sha256: str = ""
    """Expected SHA-256 of the file; required for `onnx`."""


@dataclass(frozen=True)
class JudgeConfig:
    kind: Literal["auto", "none", "onnx"] = "auto"
    """A second recogniser, which only measures. `auto`: the toy world's own where recognizer.kind=toy, else none;
    `onnx`: an ArcFace-style model from `judge.path`, trained by other means than the recogniser."""
    path: str = knob("")
    """The ONNX file of the judge."""
    sha256: str = ""
    """Expected SHA-256 of the file; required for `onnx`."""


def recognizer_rules(r: RecognizerConfig) -> Rules:
    yield from file_rules("recognizer.", r.path, r.sha256, needed=r.kind == "onnx", when="when recognizer.kind=onnx")


def judge_rules(j: JudgeConfig, r: RecognizerConfig) -> Rules:
    yield from file_rules("judge.", j.path, j.sha256, needed=j.kind == "onnx", when="when judge.kind=onnx")
    same = bool(j.sha256) and j.sha256.lower() == r.sha256.lower()
    rule = "must be another file than the recogniser's, or it would judge its own work; or judge.kind=none"
    yield "judge.sha256", not (same and r.kind == j.kind == "onnx"), rule
