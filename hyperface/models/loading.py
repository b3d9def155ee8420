"""The models a configuration names. A choice is a `match`; there is no registry."""

from hyperface.config import RecognizerConfig, SynthesisConfig, local_path
from hyperface.models.protocols import Generator, Recognizer


def load_recognizer(config: RecognizerConfig) -> Recognizer:
    """The recogniser whose hypersphere is packed. Raises ModelError for a file that is missing or another."""
    match config.kind:
        case "toy":
            from hyperface.models.toy import recognizer as toy

            return toy.load_recognizer()
        case "onnx":
            from hyperface.models.arcface import ArcFaceRecognizer

            return ArcFaceRecognizer(local_path(config.path), config.sha256)


def load_judge(config: RecognizerConfig) -> Recognizer | None:
    """An independent recogniser that only measures; None where there is none for this kind."""
    if config.kind != "toy":
        return None
    from hyperface.models.toy import recognizer as toy

    return toy.load_judge()


def load_generator(config: SynthesisConfig) -> Generator:
    """The generator that draws the dataset."""
    match config.generator:
        case "toy_render":
            from hyperface.models.toy.render_generator import ToyRenderGenerator

            return ToyRenderGenerator()
        case "toy_diffusion":
            from hyperface.models.toy.diffusion_generator import ToyDiffusionGenerator

            return ToyDiffusionGenerator(steps=config.diffusion_steps, guidance=config.guidance)
