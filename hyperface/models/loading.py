"""The models a configuration names. A choice is a `match`; there is no registry."""

from hyperface.config import Config, RecognizerConfig, local_path
from hyperface.models.protocols import Aligner, Generator, Models, Recognizer


def load_models(config: Config) -> Models:
    """What the synthesis of a run needs; the judge only where the gate asks it. Raises ModelError."""
    judge = load_judge(config) if config.synthesis.min_judge_cosine > -1 else None
    recognizer = load_recognizer(config.recognizer)
    return Models(load_generator(config), recognizer, load_aligner(config, recognizer.image_size), judge)


def load_recognizer(config: RecognizerConfig) -> Recognizer:
    """The recogniser whose hypersphere is packed. Raises ModelError for a file that is missing or another."""
    match config.kind:
        case "toy":
            from hyperface.models.toy import recognizer as toy

            return toy.load_recognizer()
        case "onnx":
            from hyperface.models.arcface import ArcFaceRecognizer

            return ArcFaceRecognizer(local_path(config.path), config.sha256)


def load_judge(config: Config) -> Recognizer | None:
    """An independent recogniser that only measures; None where there is none."""
    if config.judge.kind == "onnx":
        from hyperface.models.arcface import ArcFaceRecognizer

        return ArcFaceRecognizer(local_path(config.judge.path), config.judge.sha256, section="judge")
    if config.judge.kind == "none" or config.recognizer.kind != "toy":
        return None
    from hyperface.models.toy import recognizer as toy

    return toy.load_judge()


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


def load_aligner(config: Config, image_size: int) -> Aligner | None:
    """What crops the generator's pictures to `image_size` pixels, those of the recogniser; None where it draws what the
    recogniser takes. Raises ModelError."""
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
