"""How many images of the toy world's diffusion generator meet a target yaw, by the reader that steered them and by one
that did not: python -m tests.benchmarks.bench_control_reach SECOND_FOLDER [images] [yaw,yaw,...]

SECOND_FOLDER holds `attributes_second.safetensors`, which `python -m jobs.train_toy` makes and nobody ships. Identities
are held out from all trainings; each image has a reference of its own, the mean of five embeddings. All numbers are of
the pictures in grey levels, as they would be encoded.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from hyperface.config import ControlConfig
from hyperface.models.protocols import Models
from hyperface.models.toy.attributes import YAW_DEGREES, AngleNet, load_attributes
from hyperface.models.toy.diffusion_generator import ToyDiffusionGenerator
from hyperface.models.toy.faces import HELD_OUT_SEED, render_faces
from hyperface.models.toy.recognizer import load_judge, load_recognizer, to_signal
from hyperface.models.toy.weights import read_weights
from hyperface.synthesis.steering import chosen
from tests.benchmarks import record

RENDERS, NEAR = 5, 5.0
"""Renders of a reference; degrees within which a target is met."""


def centres(rows_BD: np.ndarray, images: int) -> np.ndarray:
    means_PD = rows_BD.reshape(images, RENDERS, -1).mean(1)
    unit_PD: np.ndarray = (means_PD / np.linalg.norm(means_PD, axis=1, keepdims=True)).astype(np.float32)
    return unit_PD


def main() -> None:
    folder, images = Path(sys.argv[1]), int((sys.argv[2:] or ["60"])[0])
    yaws = [float(word) for word in (sys.argv[3:] or ["-10,0,10"])[0].split(",")]
    settings = ControlConfig(targets={"yaw": yaws})
    models = Models(ToyDiffusionGenerator(), load_recognizer(), attributes=load_attributes())
    network, judge = AngleNet(), load_judge()
    tensors, second_sha256 = read_weights("attributes_second", folder, check=False)
    network.load_state_dict(tensors)
    control = chosen(settings, load_attributes().ranges)
    assert control is not None
    renders = render_faces(images, RENDERS, HELD_OUT_SEED).images_BHWC
    rows, judged = centres(models.recognizer.embed(renders), images), centres(judge.embed(renders), images)
    seeds = [10_000 + i for i in range(images)]
    targets = np.array([[yaws[i % len(yaws)]] for i in range(images)])
    began = time.perf_counter()
    moved, steps = control.steered(models, rows, seeds, rows, targets)
    seconds = time.perf_counter() - began

    def measured(at: np.ndarray) -> dict[str, float]:
        pictures = models.generator.generate(at, seeds)
        with torch.no_grad():
            first = load_attributes().values(to_signal(pictures))[:, 0].numpy()
            second = network.eval()(to_signal(pictures))[:, 0].numpy() * YAW_DEGREES
        own, other = (models.recognizer.embed(pictures) * rows).sum(1), (judge.embed(pictures) * judged).sum(1)
        misses = {"its reader": np.abs(first - targets[:, 0]), "a second reader": np.abs(second - targets[:, 0])}
        return {
            **{
                f"met within {NEAR:g} degrees, by {name}": float((miss <= NEAR).mean()) for name, miss in misses.items()
            },
            **{f"mean miss in degrees, by {name}": float(miss.mean()) for name, miss in misses.items()},
            "cosine to the reference, by the recogniser: mean": float(own.mean()),
            "cosine to the reference, by the recogniser: least": float(own.min()),
            "cosine to the reference, by the judge: mean": float(other.mean()),
            "cosine to the reference, by the judge: 5th percentile": float(np.quantile(other, 0.05)),
        }

    found = {
        "as drawn": measured(rows),
        "steered": measured(moved),
        "steps of an image, mean": float(np.mean(steps)),
        "images that took all steps": int(sum(step == settings.steps for step in steps)),
        "seconds": round(seconds, 1),
    }
    chosen_keys = {"steps": settings.steps, "learning_rate": settings.learning_rate}
    described = {"images": images, "yaw": yaws, **chosen_keys, "identity_cosine": settings.identity_cosine}
    described |= {"generator": "toy_diffusion, 8 steps, guidance 1.5", "second reader": second_sha256}
    record.write("control_reach", {**described, "threads": torch.get_num_threads()}, found)


if __name__ == "__main__":
    main()
