"""The models a configuration names. A choice is a `match`; there is no registry."""

from dataclasses import dataclass
from typing import Any

from hyperface.config import Config, EvaluateConfig, RecognizerConfig, local_path
from hyperface.errors import ConfigError
from hyperface.models.protocols import Aligner, AttributeReader, FeatureRecognizer, Generator, Models, Preprocessing
from hyperface.storage import Store


@dataclass(frozen=True)
class Evaluated:
    """A recogniser that is to be verified."""

    recognizer: FeatureRecognizer
    label: str
    """Name of the recogniser's record: that of the training, `recognizer`, `judge`, or `onnx-` and the first 12 digits
    of its hash, with the preprocessing where that is not the usual one."""
    described: dict[str, Any]
    """Description of the network and of how it takes images; recorded with the numbers that it gives."""


def load_models(config: Config) -> Models:
    """Load what the synthesis of a run needs; the judge only where the gate asks it. Raises ModelError."""
    judge = load_judge(config) if config.synthesis.judged else None
    recognizer = load_recognizer(config.recognizer)
    aligner = load_aligner(config, recognizer.image_size)
    return Models(load_generator(config), recognizer, aligner, judge, load_attributes(config))


def needs_files(config: Config) -> bool:
    """Return whether `load_models` reads a file that does not ship with the code."""
    synthesis = config.synthesis
    return (
        not synthesis.ships
        or config.recognizer.kind == "onnx"
        or (config.judge_kind == "onnx" and synthesis.judged)
        or synthesis.alignment == "landmarks"
        or config.reader_kind == "onnx"
    )


def load_evaluated(config: Config, store: Store) -> Evaluated:
    """The recogniser that `evaluate.model` names.

    Args:
        store: the run's storage, which holds what was trained.

    Raises:
        ConfigError: the run has no judge.
        ModelError: its file is missing, damaged or another.
        RunError: the training is not there or not finished.
    """
    kind, training = config.evaluate.model, None
    match kind:
        case "trained":
            recognizer, label, training = _trained(config, store)
        case "recognizer":
            recognizer, label = load_recognizer(config.recognizer), kind
        case "judge":
            found = load_judge(config)
            if found is None:
                fix = "set judge.kind=onnx, judge.path and judge.sha256, or evaluate another model"
                raise ConfigError(f"evaluate.model: this run has no judge; {fix}")
            recognizer, label = found, kind
        case "onnx":
            recognizer = _onnx(config.evaluate)
            label = f"onnx-{recognizer.fingerprint[:12]}{_unusual(recognizer.preprocessing)}"
    taken = recognizer.preprocessing
    described: dict[str, Any] = {
        "kind": kind,
        "fingerprint": recognizer.fingerprint,
        "embedding_dim": recognizer.embedding_dim,
        "image_size": recognizer.image_size,
        "preprocessing": {"color_order": taken.color_order, "mean": taken.mean, "std": taken.std},
    }
    return Evaluated(recognizer, label, described | ({"training": training} if training is not None else {}))


def _trained(config: Config, store: Store) -> tuple[FeatureRecognizer, str, dict[str, Any]]:
    from hyperface.models.trained import load_trained

    trained = load_trained(store, config.train.name)
    return trained, config.train.name, trained.described


def _unusual(taken: Preprocessing) -> str:
    """Return a suffix that keeps the records of one file apart that is shown images in several ways."""
    return "" if taken == Preprocessing() else f"-{taken.color_order.lower()}-{taken.mean:g}-{taken.std:g}"


def _onnx(evaluate: EvaluateConfig) -> FeatureRecognizer:
    from hyperface.models.arcface import ArcFaceRecognizer

    taken = Preprocessing(evaluate.color_order, evaluate.pixel_mean, evaluate.pixel_std)
    return ArcFaceRecognizer(local_path(evaluate.path), evaluate.sha256, section="evaluate", preprocessing=taken)


def load_recognizer(config: RecognizerConfig) -> FeatureRecognizer:
    """The recogniser whose hypersphere is packed. Raises ModelError for a file that is missing or another."""
    match config.kind:
        case "toy":
            from hyperface.models.toy import recognizer as toy

            return toy.load_recognizer()
        case "onnx":
            from hyperface.models.arcface import ArcFaceRecognizer

            return ArcFaceRecognizer(local_path(config.path), config.sha256)


def load_judge(config: Config) -> FeatureRecognizer | None:
    """An independent recogniser that only measures; None where there is none."""
    match config.judge_kind:
        case "none":
            return None
        case "toy":
            from hyperface.models.toy import recognizer as toy

            return toy.load_judge()
        case "onnx":
            from hyperface.models.arcface import ArcFaceRecognizer

            return ArcFaceRecognizer(local_path(config.judge.path), config.judge.sha256, section="judge")


def load_generator(config: Config) -> Generator:
    """The generator that draws the dataset. Raises ModelError for weights that are missing or do not fit."""
    steps, guidance = config.synthesis.diffusion_steps, config.synthesis.guidance
    match config.synthesis.generator:
        case "toy_render":
            from hyperface.models.toy.render_generator import ToyRenderGenerator

            return ToyRenderGenerator()
        case "toy_diffusion":
            from hyperface.models.toy.diffusion_generator import ToyDiffusionGenerator

            return ToyDiffusionGenerator(steps=steps or 8, guidance=guidance or 1.5)
        case "arc2face":
            from hyperface.models.arc2face import Arc2FaceGenerator

            return Arc2FaceGenerator(config.arc2face, steps, guidance)
        case "vec2face":
            from hyperface.models.vec2face import Vec2FaceGenerator

            return Vec2FaceGenerator(config.vec2face, config.storage)


def load_attributes(config: Config) -> AttributeReader | None:
    """Load the reader of the attributes that images are steered to; None where they are steered to none. Raises
    ModelError."""
    match config.reader_kind:
        case "none":
            return None
        case "toy":
            from hyperface.models.toy import attributes

            return attributes.load_attributes()
        case "onnx":
            from hyperface.models.onnx_attributes import OnnxAttributes

            return OnnxAttributes(local_path(config.control.attribute_path), config.control.attribute_sha256)


def load_aligner(config: Config, image_size: int) -> Aligner | None:
    """Load the aligner that crops the generator's pictures to the recogniser's `image_size` pixels; None where the
    generator draws what the recogniser takes. Raises ModelError."""
    synthesis = config.synthesis
    match synthesis.alignment:
        case "none":
            return None
        case "template":
            from hyperface.models.alignment import TemplateAligner

            return TemplateAligner(image_size)
        case "landmarks":
            from hyperface.models.alignment import LandmarkAligner
            from hyperface.models.detector import FaceDetector

            detector = FaceDetector(local_path(synthesis.detector_path), synthesis.detector_sha256)
            return LandmarkAligner(detector, image_size)
