"""The whole configuration: its sections, and the rules that join them."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import chain
from typing import Any, Literal

from hyperface.config.arc2face import Arc2FaceConfig, arc2face_rules
from hyperface.config.audit import AuditConfig, audit_rules
from hyperface.config.control import ControlConfig, control_rules
from hyperface.config.dataset import DatasetConfig, PublishConfig, ReportConfig, publish_rules
from hyperface.config.embed import EmbedConfig, embed_rules
from hyperface.config.evaluate import EvaluateConfig, evaluate_rules
from hyperface.config.experiment import ExperimentConfig, experiment_rules
from hyperface.config.fields import Rules, ranges
from hyperface.config.packing import PackingConfig, packing_rules
from hyperface.config.plan import PlanConfig
from hyperface.config.recognizer import JudgeConfig, RecognizerConfig, judge_rules, recognizer_rules
from hyperface.config.run import ClusterConfig, RunConfig, StorageConfig, run_rules, storage_rules
from hyperface.config.synthesis import SynthesisConfig, synthesis_rules
from hyperface.config.train import TrainConfig, train_rules, training_rules
from hyperface.config.train_generator import TrainGeneratorConfig, train_generator_rules
from hyperface.config.vec2face import Vec2FaceConfig, vec2face_rules
from hyperface.errors import ConfigError

LARGEST = 10**12
"""Largest number but a seed, so that products of a few of them are still numbers of float32 and int64."""

_LONGEST_SHOWN = 300


@dataclass(frozen=True)
class Config:
    run: RunConfig = field(default_factory=RunConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    recognizer: RecognizerConfig = field(default_factory=RecognizerConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    arc2face: Arc2FaceConfig = field(default_factory=Arc2FaceConfig)
    vec2face: Vec2FaceConfig = field(default_factory=Vec2FaceConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    packing: PackingConfig = field(default_factory=PackingConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    train_generator: TrainGeneratorConfig = field(default_factory=TrainGeneratorConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)

    @property
    def judge_kind(self) -> Literal["none", "toy", "onnx"]:
        """Return the kind of the recogniser that only measures, `auto` being resolved."""
        if self.judge.kind == "auto":
            return "toy" if self.recognizer.kind == "toy" else "none"
        return self.judge.kind

    @property
    def reader_kind(self) -> Literal["none", "toy", "onnx"]:
        """Return the kind of the model that reads the attributes that images are steered to, `auto` being resolved."""
        if not self.control.steers:
            return "none"
        return self.recognizer.kind if self.control.attributes == "auto" else self.control.attributes


LATER = ("train", "train_generator", "evaluate", "audit", "experiment", "plan", "publish")
"""Sections about what is done with a finished dataset: no part of a run's identity, and none of older runs."""

ADDED = ("control", "vec2face")
"""Sections that runs from before they existed lack: those had what their defaults say."""


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return the configuration as {"section.key": value}."""
    out: dict[str, Any] = {}
    for f in fields(config):
        value, key = getattr(config, f.name), prefix + f.name
        out.update(flat(value, key + ".") if is_dataclass(value) else {key: value})
    return out


def identity(config: Config) -> dict[str, Any]:
    """Return {"section.key": value} of the fields that change what a run writes: all but the knobs and the later
    sections."""
    sections = [section.name for section in fields(config) if section.name not in LATER]
    return {f"{name}.{key}": value for name in sections for key, value in without_knobs(getattr(config, name)).items()}


def without_knobs(section: Any) -> dict[str, Any]:
    """Return {key: value} of the fields of a section that decide a result."""
    return {f.name: getattr(section, f.name) for f in fields(section) if not f.metadata.get("knob")}


def differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return one line per key whose value differs: `key: recorded -> wanted`."""
    return [
        f"{key}: {recorded.get(key)!r} -> {wanted.get(key)!r}"
        for key in sorted(recorded.keys() | wanted.keys())
        if recorded.get(key) != wanted.get(key)
    ]


def check(config: Config) -> None:
    """Raise ConfigError naming every rule that does not hold."""
    _refuse(flat(config), _rules(config))


def check_packing(config: PackingConfig) -> None:
    """Raise ConfigError naming every rule that does not hold, for a packing outside a run."""
    values = flat(config, "packing.")
    _refuse(values, chain(ranges("packing", config), packing_rules(config), _sizes(values)))


def _refuse(values: Mapping[str, Any], rules: Rules) -> None:
    broken = [f"{key} {rule}; it is {_shown(values[key])}" for key, holds, rule in rules if not holds]
    if broken:
        raise ConfigError("\n".join(broken))


def _shown(value: Any) -> str:
    """Return a value as it is written, but for a password in an address."""
    shown = re.sub(r"//[^/@\s]*@", "//***@", repr(value))
    shown = re.sub(r"s3://[^/]*[:@*].*", "s3://***'", shown)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."


def _rules(c: Config) -> Rules:
    """Yield every rule that a type cannot express."""
    vec2face = "vec2face" in (c.synthesis.generator, *c.experiment.generators)
    for section in fields(c):
        if section.name != "vec2face" or vec2face:
            yield from ranges(section.name, getattr(c, section.name))
    yield from run_rules(c.run)
    yield from storage_rules(c.storage)
    yield from recognizer_rules(c.recognizer)
    yield from judge_rules(c.judge, c.recognizer)
    yield from embed_rules(c.embed, c.recognizer.kind)
    yield from packing_rules(c.packing)
    if c.embed.source == "toy" and c.packing.start == "gallery":
        rule = f"must not exceed embed.num_faces={c.embed.num_faces}: draw more faces or pack fewer identities"
        yield "packing.num_identities", c.embed.num_faces >= c.packing.num_identities, rule
    yield from synthesis_rules(c.synthesis, c.judge_kind)
    if c.synthesis.generator == "arc2face":
        yield from arc2face_rules(c.arc2face)
    if vec2face:
        yield from vec2face_rules(c.vec2face)
    yield from control_rules(c.control, c.synthesis.generator, c.synthesis.alignment, c.reader_kind)
    yield from training_rules("train", c.train)
    yield from train_rules(c.train)
    yield from training_rules("train_generator", c.train_generator)
    yield from train_generator_rules(c.train_generator)
    yield from evaluate_rules(c.evaluate)
    yield from audit_rules(c.audit, toy=c.recognizer.kind == "toy")
    yield from experiment_rules(c.experiment, c.synthesis.generator)
    yield from publish_rules(c.publish)
    yield from _sizes(flat(c))


def _sizes(values: Mapping[str, Any]) -> Rules:
    """Every number is finite and, but for seeds, of a size that products of a few can have."""
    for key, value in values.items():
        if isinstance(value, float):
            yield key, math.isfinite(value), "must be a finite number"
        if not key.endswith(".seed"):
            yield key, all(abs(number) <= LARGEST for number in _numbers(value)), f"must be at most {LARGEST:g} in size"


def _numbers(value: Any) -> Iterator[float]:
    """Yield every number in a value but infinities, which have a rule of their own."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
    elif isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        yield value
