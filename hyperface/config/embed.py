"""The section `embed`: the real or rendered faces that the gallery is made of."""

from dataclasses import dataclass

from hyperface.config.fields import Rules, knob, number


@dataclass(frozen=True)
class EmbedConfig:
    source: str = "toy"
    """`toy`: rendered faces; else a folder of images, *.tar or *.tar.gz (WebDataset) or *.parquet, local or s3://."""
    num_faces: int = 2000
    """Faces to embed: rendered (`toy`), or the first so many of the source; 0: all of the source."""
    identity_spread: float = number(1.0, above=0, at_most=1)
    """`toy` only: share (0..1] of each identity trait's range that is drawn from; small: a biased gallery."""
    batch_size: int = number(64, at_least=1)
    """Images per forward pass of the recogniser."""
    max_bad_fraction: float = knob(0.01, at_least=0, at_most=1)
    """Stop when more than this share of the images is unreadable, misshapen, duplicate or without embedding."""
    num_actors: int = knob(0, at_least=0)
    """Recogniser actors; 0: one per available CPU (or GPU)."""
    gpus_per_actor: float = knob(0.0, at_least=0)
    """GPUs that each recogniser actor reserves."""
    max_failures: int = knob(3, at_least=0)
    """Times a chunk of faces is tried again after its actor died, before the job fails."""


def embed_rules(e: EmbedConfig, recognizer: str) -> Rules:
    toy = e.source == "toy"
    rule = "`toy` renders 64x64 faces for the toy recogniser; give real face images"
    yield "embed.source", not (toy and recognizer == "onnx"), rule
    yield "embed.num_faces", e.num_faces >= (1 if toy else 0), "must be at least 1 for embed.source=toy, else 0"
