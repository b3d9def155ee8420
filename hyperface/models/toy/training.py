"""All stages that make the toy weights, in order, each skipped when its file is there.

Stage -> file: recognizer, judge, inverter, diffusion and attributes are shipped; autoencoder, decoder and denoiser are
the parts of diffusion, attributes_second only measures. The rendered faces are kept beside them.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hyperface.models.toy.attributes import AngleNet
from hyperface.models.toy.autoencoder import Autoencoder
from hyperface.models.toy.faces import GENERATOR_SEED, JUDGE_SEED, RECOGNIZER_SEED, FaceSet, cached_faces
from hyperface.models.toy.recognizer import PlainNet, ResidualNet, load_recognizer
from hyperface.models.toy.render_generator import load_inverter
from hyperface.models.toy.train_attributes import ATTRIBUTE_SEED, cached_angles, train_angles
from hyperface.models.toy.train_autoencoder import train_autoencoder
from hyperface.models.toy.train_decoder import sharpen_decoder
from hyperface.models.toy.train_generators import (
    DiffusionTask,
    embed_faces,
    encode_faces,
    train_diffusion,
    train_inverter,
)
from hyperface.models.toy.train_recognizer import train_recognizer
from hyperface.models.toy.weights import read_weights, write_weights

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """Training sets (identities, renders of each) and numbers of steps; a batch is no larger than its set.

    The defaults made the shipped weights.
    """

    recognizer_faces: tuple[int, int] = (6000, 12)
    judge_faces: tuple[int, int] = (4000, 12)
    generator_faces: tuple[int, int] = (8000, 5)
    attribute_faces: int = 12000
    recognizer_steps: int = 2000
    judge_steps: int = 1500
    autoencoder_steps: int = 1600
    sharpen_steps: int = 900
    inverter_steps: int = 3000
    diffusion_steps: int = 6000
    attribute_steps: int = 1500


FAST_PLAN = Plan(
    recognizer_faces=(4, 4), judge_faces=(4, 4), generator_faces=(4, 4), recognizer_steps=2, judge_steps=2,
    autoencoder_steps=2, sharpen_steps=2, inverter_steps=2, diffusion_steps=2, attribute_faces=16, attribute_steps=2,
)  # fmt: skip


def train_all(folder: Path, plan: Plan) -> None:
    """Make every weights file in `folder` that is not there yet. A stopped run continues at its last stage."""
    make_recognizer(folder, plan)
    make_judge(folder, plan)
    make_autoencoder(folder, plan)
    make_inverter(folder, plan)
    make_decoder(folder, plan)
    make_denoiser(folder, plan)
    make_diffusion(folder)
    make_attributes(folder, plan, "attributes", seed=61)
    make_attributes(folder, plan, "attributes_second", seed=62)


def recognizer_faces(folder: Path, plan: Plan) -> FaceSet:
    return cached_faces(folder / "recognizer_faces.npy", *plan.recognizer_faces, RECOGNIZER_SEED)


def generator_faces(folder: Path, plan: Plan) -> FaceSet:
    """Render the faces that the generators learn from: identities no recogniser was trained on, in milder poses and
    light."""
    return cached_faces(folder / "generator_faces.npy", *plan.generator_faces, GENERATOR_SEED, strength=0.7)


def make_recognizer(folder: Path, plan: Plan) -> None:
    if _missing(folder, "recognizer"):
        torch.manual_seed(11)
        network = train_recognizer(ResidualNet(), recognizer_faces(folder, plan), plan.recognizer_steps, seed=11)
        _finish("recognizer", network, folder)


def make_judge(folder: Path, plan: Plan) -> None:
    if _missing(folder, "judge"):
        torch.manual_seed(22)
        faces = cached_faces(folder / "judge_faces.npy", *plan.judge_faces, JUDGE_SEED)
        _finish("judge", train_recognizer(PlainNet(), faces, plan.judge_steps, seed=22), folder)


def make_autoencoder(folder: Path, plan: Plan) -> None:
    if _missing(folder, "autoencoder"):
        network = train_autoencoder(recognizer_faces(folder, plan), plan.autoencoder_steps, seed=31)
        _finish("autoencoder", network, folder)


def make_inverter(folder: Path, plan: Plan) -> None:
    if _missing(folder, "inverter"):
        identities_PI = generator_faces(folder, plan).identities_PI
        inverter = train_inverter(_embeddings(folder, plan), identities_PI, plan.inverter_steps, seed=41)
        _finish("inverter", inverter, folder)


def make_decoder(folder: Path, plan: Plan) -> None:
    if _missing(folder, "decoder"):
        decoder = sharpen_decoder(
            _read_autoencoder(folder),
            load_inverter(folder, check=False)[0],
            load_recognizer(folder, check=False).network,
            generator_faces(folder, plan),
            _embeddings(folder, plan),
            plan.sharpen_steps,
            seed=32,
        )
        _finish("decoder", decoder, folder)


def make_denoiser(folder: Path, plan: Plan) -> None:
    if not _missing(folder, "denoiser"):
        return
    autoencoder = _read_autoencoder(folder).requires_grad_(False)
    task = DiffusionTask(
        latents=encode_faces(autoencoder, generator_faces(folder, plan)),
        embeddings_PKD=_embeddings(folder, plan),
        inverter=load_inverter(folder, check=False)[0],
        autoencoder=autoencoder,
        critic=load_recognizer(folder, check=False).network,
    )

    def keep(step: int, average: nn.Module) -> None:
        write_weights(f"denoiser_at_{step:05d}", average.state_dict(), folder / "checkpoints")

    _finish("denoiser", train_diffusion(task, plan.diffusion_steps, seed=51, checkpoint=keep), folder)


def make_diffusion(folder: Path) -> None:
    """Put denoiser and decoder into one file; the encoder was needed for training only."""
    if _missing(folder, "diffusion"):
        tensors = {f"unet.{key}": value for key, value in read_weights("denoiser", folder, check=False)[0].items()}
        for key, value in read_weights("decoder", folder, check=False)[0].items():
            if not key.startswith("encoder."):
                tensors[f"autoencoder.{key}"] = value
        _LOG.info("diffusion.safetensors SHA-256 %s", write_weights("diffusion", tensors, folder))


def make_attributes(folder: Path, plan: Plan, name: str, seed: int) -> None:
    """A reader of yaw and light. The second one is of another seed: nothing is steered by it."""
    if _missing(folder, name):
        torch.manual_seed(seed)
        images, angles = cached_angles(folder / "attribute_faces.npz", plan.attribute_faces, ATTRIBUTE_SEED)
        _finish(name, train_angles(AngleNet(), images, angles, plan.attribute_steps, seed), folder)


def _read_autoencoder(folder: Path) -> Autoencoder:
    network = Autoencoder()
    network.load_state_dict(read_weights("autoencoder", folder, check=False)[0])
    return network.eval()


def _embeddings(folder: Path, plan: Plan) -> np.ndarray:
    """Embeddings of the generators' faces, computed once."""
    path = folder / "generator_embeddings.npy"
    if not path.exists():
        np.save(path, embed_faces(load_recognizer(folder, check=False), generator_faces(folder, plan)))
    known_PKD: np.ndarray = np.load(path)
    return known_PKD


def _missing(folder: Path, name: str) -> bool:
    return not (folder / f"{name}.safetensors").exists()


def _finish(name: str, network: nn.Module, folder: Path) -> None:
    _LOG.info("%s.safetensors SHA-256 %s", name, write_weights(name, network.state_dict(), folder))
