"""The rules of the sections in `later.py` that their types cannot express."""

from collections.abc import Iterator

from hyperface.config.knobs import SHA256, Rule, is_sha256
from hyperface.config.later import AuditConfig, EvaluateConfig, ExperimentConfig, TrainConfig
from hyperface.config.schema import Config
from hyperface.config.training_rules import training_rules
from hyperface.config.vec2face import TrainGeneratorConfig, mask_rules, vec2face_rules


def later_rules(c: Config) -> Iterator[Rule]:
    yield from _train_rules(c.train)
    yield from _train_generator_rules(c.train_generator)
    yield from _evaluate_rules(c.evaluate)
    yield from _audit_rules(c.audit, toy=c.recognizer.kind == "toy")
    yield from _experiment_rules(c.experiment, c.synthesis.generator)
    if "vec2face" in c.experiment.generators and c.synthesis.generator != "vec2face":
        yield from vec2face_rules(c.vec2face)


def _train_rules(t: TrainConfig) -> Iterator[Rule]:
    yield from training_rules("train", t)
    taken = t.name in ("recognizer", "judge") or t.name.startswith("onnx-")
    yield "train.name", not taken, "names the record of another model (recognizer, judge, onnx-...); take another name"
    yield "train.embedding_dim", t.embedding_dim >= 2, "must be at least 2"
    yield "train.squeeze_excitation", not (t.squeeze_excitation and t.backbone == "small"), "needs an IResNet"
    yield "train.dropout", t.dropout == 0 or t.backbone != "small", "needs an IResNet"
    yield "train.scale", t.scale > 0, "must be above 0"
    yield "train.margin", 0 <= t.margin < 1.5, "must be at least 0 and below 1.5"
    yield "train.sample_rate", 0 < t.sample_rate <= 1, "must be above 0 and at most 1"
    yield "train.batch_size", t.batch_size >= 2, "must be at least 2: batch normalisation needs two images"
    alone = max(t.num_workers, 1) * 2 > t.batch_size
    yield "train.num_workers", t.num_workers == 1 or not alone, "must leave each worker two images of a batch"
    yield "train.momentum", 0 <= t.momentum < 1, "must be at least 0 and below 1"
    ascending = t.milestones == sorted(set(t.milestones)) and all(m >= 1 for m in t.milestones)
    yield "train.milestones", ascending, "must be ascending epochs of at least 1, e.g. [12,20,24]"
    late = t.schedule == "steps" and any(m >= t.epochs for m in t.milestones)
    rule = f"must be below train.epochs={t.epochs}, or the learning rate would not fall, e.g. [5,8,9] for 10 epochs"
    yield "train.milestones", not late, rule
    for key in ("erasing", "crop", "low_resolution", "photometric"):
        yield f"train.{key}", 0 <= getattr(t, key) <= 1, "must be a probability between 0 and 1"


def _train_generator_rules(t: TrainGeneratorConfig) -> Iterator[Rule]:
    section = "train_generator"
    yield from training_rules(section, t)
    for key in ("pixel", "perceptual", "ssim", "token", "identity", "adversarial"):
        yield f"{section}.{key}", getattr(t, key) >= 0, "must be at least 0"
    learns = any((t.pixel, t.perceptual, t.ssim, t.token, t.identity))
    yield f"{section}.pixel", learns, "must be above 0, or another term of the loss must"
    yield f"{section}.adversarial_from", 0 <= t.adversarial_from <= 1, "must be between 0 and 1"
    late = t.adversarial == 0 or t.adversarial_from < 1
    yield f"{section}.adversarial_from", late, f"must be below 1 where {section}.adversarial is to take part"
    yield from mask_rules(section, t)


def _evaluate_rules(e: EvaluateConfig) -> Iterator[Rule]:
    onnx = e.model == "onnx"
    yield "evaluate.path", bool(e.path) or not onnx, "is required when evaluate.model=onnx"
    yield "evaluate.sha256", is_sha256(e.sha256) or not onnx, f"{SHA256} when evaluate.model=onnx"
    yield "evaluate.pixel_std", e.pixel_std > 0, "must be above 0"
    yield "evaluate.batch_size", e.batch_size >= 1, "must be at least 1"
    yield "evaluate.gpus", e.gpus >= 0, "must be at least 0"


def _audit_rules(a: AuditConfig, *, toy: bool) -> Iterator[Rule]:
    yield "audit.false_accept_rate", 0 < a.false_accept_rate < 1, "must be above 0 and below 1"
    yield "audit.controls", a.controls >= 0, "must be at least 0 (no control)"
    yield "audit.top_pairs", a.top_pairs >= 0, "must be at least 0"
    onnx = a.attributes == "onnx"
    yield "audit.attributes", toy or a.attributes != "toy", "`toy` reads the toy recogniser's embeddings only"
    yield "audit.attribute_path", bool(a.attribute_path) or not onnx, "is required when audit.attributes=onnx"
    rule = f"{SHA256} when audit.attributes=onnx"
    yield "audit.attribute_sha256", is_sha256(a.attribute_sha256) or not onnx, rule
    rule = "must name the model's numbers when audit.attributes=onnx, e.g. [age,yaw]"
    yield "audit.attribute_names", bool(a.attribute_names) or not onnx, rule
    each = len(set(a.attribute_names)) == len(a.attribute_names)
    yield "audit.attribute_names", each, "must be different names: a number of the model would be lost"
    yield "audit.labels", bool(a.labels) or a.attributes != "labels", "is required when audit.attributes=labels"


def _experiment_rules(e: ExperimentConfig, generator: str) -> Iterator[Rule]:
    yield "experiment.seeds", e.seeds >= 1, "must be at least 1"
    several = all(alpha >= 0 for alpha in e.alphas) and len({f"{alpha:g}" for alpha in e.alphas}) == len(e.alphas)
    yield "experiment.alphas", several, "must be different numbers of at least 0, e.g. [0,0.5,1]"
    rule = "must be different numbers of at least 1, e.g. [20,400]"
    yield "experiment.steps", all(s >= 1 for s in e.steps) and len(set(e.steps)) == len(e.steps), rule
    yield "experiment.objectives", len(set(e.objectives)) == len(e.objectives), "must name each objective once"
    yield "experiment.samples", len(set(e.samples)) == len(e.samples), "must name each sample once"
    yield "experiment.generators", len(set(e.generators)) == len(e.generators), "must name each generator once"
    rule = "needs a generator besides synthesis.generator; set experiment.generators, e.g. [vec2face]"
    yield "experiment.mixture", not e.mixture or any(g != generator for g in e.generators), rule
    yield "experiment.biased_spread", 0 < e.biased_spread <= 1, "must be above 0 and at most 1"
    yield "experiment.folds", e.folds >= 1, "must be at least 1"
