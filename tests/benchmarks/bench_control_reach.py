"""How many images of the toy world's diffusion generator meet a target yaw, by the reader that steered them and by one
that did not: python -m tests.benchmarks.bench_control_reach SECOND_FOLDER [identities] [yaw,yaw,...]

SECOND_FOLDER holds `attributes_second.safetensors`, which `python -m jobs.train_toy` makes and nobody ships. Identities
are held out from all trainings; references are means of five embeddings; an identity has an image for each yaw. All
numbers are of the images as they are stored, with the defaults of `control` and of the generator.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperface.config import ControlConfig
from hyperface.dataset import jpeg
from hyperface.dataset.plan import Plan
from hyperface.dataset.schema import Sample
from hyperface.models.protocols import Models
from hyperface.models.toy.attributes import YAW_DEGREES, AngleNet, load_attributes
from hyperface.models.toy.diffusion_generator import ToyDiffusionGenerator
from hyperface.models.toy.faces import HELD_OUT_SEED, render_faces
from hyperface.models.toy.recognizer import load_judge, load_recognizer, to_signal
from hyperface.models.toy.weights import read_weights
from hyperface.synthesis.drawing import Drawing, Identities
from hyperface.synthesis.quality import Gate
from hyperface.synthesis.render import render_shard
from hyperface.synthesis.steering import Control, chosen
from hyperface.synthesis.variation import Variation
from tests.benchmarks import record

RENDERS, NEAR, ATTEMPTS = 5, 5.0, 3
"""Renders of a reference; degrees within which a target is met; draws of an image."""


def centres(rows_BD: np.ndarray, identities: int) -> np.ndarray:
    means_PD = rows_BD.reshape(identities, RENDERS, -1).mean(1)
    unit_PD: np.ndarray = (means_PD / np.linalg.norm(means_PD, axis=1, keepdims=True)).astype(np.float32)
    return unit_PD


def measured(
    samples: list[Sample], yaws: Mapping[str, float], second: torch.nn.Module, judged_PD: np.ndarray
) -> dict[str, Any]:
    """yaws: {key: what was wanted}."""
    signal = to_signal(np.stack([jpeg.decode(sample.jpeg) for sample in samples]))
    wanted = np.array([yaws[sample.key] for sample in samples])
    with torch.no_grad():
        read = {
            "its reader": load_attributes().values(signal)[:, 0].numpy(),
            "a second reader": second(signal)[:, 0].numpy() * YAW_DEGREES,
        }
    seen = load_judge().embed(np.stack([jpeg.decode(sample.jpeg) for sample in samples]))
    other = (seen * judged_PD[[sample.identity for sample in samples]]).sum(1)
    own = np.array([sample.cosine for sample in samples])
    return {
        "images": len(samples),
        **{f"met within {NEAR:g} degrees, by {n}": float((np.abs(v - wanted) <= NEAR).mean()) for n, v in read.items()},
        **{f"mean miss in degrees, by {n}": round(float(np.abs(v - wanted).mean()), 2) for n, v in read.items()},
        "cosine to the reference, by the recogniser: mean": round(float(own.mean()), 4),
        "cosine to the reference, by the recogniser: least": float(own.min()),
        "cosine to the reference, by the judge: mean": round(float(other.mean()), 4),
        "cosine to the reference, by the judge: 5th percentile": round(float(np.quantile(other, 0.05)), 4),
    }


def main() -> None:
    folder, identities = Path(sys.argv[1]), int((sys.argv[2:] or ["20"])[0])
    yaws = [float(word) for word in (sys.argv[3:] or ["-10,0,10"])[0].split(",")]
    config = ControlConfig(targets={"yaw": yaws})
    control = chosen(config, load_attributes().ranges)
    assert control is not None
    tensors, second_sha256 = read_weights("attributes_second", folder, check=False)
    second = AngleNet()
    second.load_state_dict(tensors)
    renders = render_faces(identities, RENDERS, HELD_OUT_SEED).images_BHWC
    models = Models(ToyDiffusionGenerator(), load_recognizer(), attributes=load_attributes())
    references, judged = (centres(of.embed(renders), identities) for of in (models.recognizer, load_judge()))
    plan = Plan(seed=0, num_identities=identities, images_per_identity=len(yaws), images_per_shard=10**6)
    found: dict[str, Any] = {}
    ways: dict[str, tuple[Control | None, int]] = {
        "not steered": (None, 1), "steered, one draw": (control, 1), f"steered, {ATTEMPTS} draws": (control, ATTEMPTS),
    }  # fmt: skip
    wanted: dict[str, float] = {}
    for name, (steered, attempts) in reversed(ways.items()):  # the targets are known from what is steered
        drawing = Drawing(Variation(beta=0.01), Gate(min_cosine=0.3), 30, attempts, 95, steered)
        began = time.perf_counter()
        shard = render_shard(plan, 0, Identities(references), models, drawing)
        wanted |= {s.key: s.control.attributes["yaw"].target for s in shard.samples if s.control}
        found[name] = measured(shard.samples, wanted, second.eval(), judged)
        found[name] |= {"draws": shard.statistics.draws, "seconds": round(time.perf_counter() - began, 1)}
        steps = [sample.control.steps for sample in shard.samples if sample.control]
        found[name] |= {"steps of a kept image, mean": round(float(np.mean(steps)), 2)} if steps else {}
        print(name, found[name], flush=True)
    keys = {key: getattr(config, key) for key in ("steps", "learning_rate", "identity_cosine")}
    described = {"identities": identities, "yaw": yaws, **keys, "second reader": second_sha256}
    described |= {"generator": "toy_diffusion, 8 steps, guidance 1.5", "threads": torch.get_num_threads()}
    record.write("control_reach", described, found)


if __name__ == "__main__":
    main()
