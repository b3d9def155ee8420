"""Measurement of how many images of the toy world's diffusion generator meet a target, by the reader that steered them
and by one that did not: python -m tests.benchmarks.bench_control_reach SECOND_FOLDER [identities]
[NAME=target,target,...]

SECOND_FOLDER holds `attributes_second.safetensors`, which `python -m jobs.train_toy` makes and nobody ships; it reads
yaw and light, sharpness is a formula. Identities are held out from all trainings; references are means of five
embeddings; an identity has an image for each target. All numbers are of the images as they are stored, with the
defaults of `control` and of the generator.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperface.config import ControlConfig
from hyperface.dataset import jpeg
from hyperface.dataset.plan import Plan
from hyperface.dataset.schema import Sample
from hyperface.models.pixels import to_signal
from hyperface.models.protocols import AttributeRange, Models
from hyperface.models.toy.attributes import RANGES, AngleNet, ToyAttributes, load_attributes
from hyperface.models.toy.diffusion_generator import ToyDiffusionGenerator
from hyperface.models.toy.faces import HELD_OUT_SEED, render_faces
from hyperface.models.toy.recognizer import load_judge, load_recognizer
from hyperface.models.toy.weights import read_weights
from hyperface.synthesis.drawing import Drawing, Identities
from hyperface.synthesis.quality import Gate
from hyperface.synthesis.render import render_shard
from hyperface.synthesis.steering import Control, chosen
from hyperface.synthesis.variation import Variation
from tests.benchmarks import record

RENDERS, ATTEMPTS = 5, 3
"""Renders of a reference; draws of an image."""


def centres(rows_BD: np.ndarray, identities: int) -> np.ndarray:
    means_PD = rows_BD.reshape(identities, RENDERS, -1).mean(1)
    unit_PD: np.ndarray = (means_PD / np.linalg.norm(means_PD, axis=1, keepdims=True)).astype(np.float32)
    return unit_PD


@dataclass(frozen=True)
class Readers:
    """Readers of one attribute."""

    name: str
    known: AttributeRange
    by: Mapping[str, ToyAttributes]

    def look(self, images_BHWC: np.ndarray, targets_B: np.ndarray) -> dict[str, Any]:
        """Shares of images that meet their targets, and mean misses, by each reader."""
        signal, said, place = to_signal(images_BHWC), dict[str, Any](), list(RANGES).index(self.name)
        for name, reader in self.by.items():
            with torch.no_grad():
                values_B = reader.values(signal)[:, place].tolist()
            misses_B = np.array([self.known.miss(v, t) for v, t in zip(values_B, targets_B, strict=True)])
            said[f"met within {self.known.tolerance:g}, by {name}"] = float((misses_B <= self.known.tolerance).mean())
            said[f"mean miss, by {name}"] = round(float(misses_B.mean()), 2)
        return said


def measured(
    samples: list[Sample], targets: Mapping[str, float], readers: Readers, judged_PD: np.ndarray
) -> dict[str, Any]:
    """Measure samples; `targets` are {key: what was wanted}."""
    images_BHWC = np.stack([jpeg.decode(sample.jpeg) for sample in samples])
    other = (load_judge().embed(images_BHWC) * judged_PD[[sample.identity for sample in samples]]).sum(1)
    own = np.array([sample.cosine for sample in samples])
    return {
        "images": len(samples),
        **readers.look(images_BHWC, np.array([targets[sample.key] for sample in samples])),
        "cosine to the reference, by the recogniser: mean": round(float(own.mean()), 4),
        "cosine to the reference, by the recogniser: least": float(own.min()),
        "cosine to the reference, by the judge: mean": round(float(other.mean()), 4),
        "cosine to the reference, by the judge: 5th percentile": round(float(np.quantile(other, 0.05)), 4),
    }


def second_reader(folder: Path) -> ToyAttributes:
    tensors, fingerprint = read_weights("attributes_second", folder, check=False)
    network = AngleNet()
    network.load_state_dict(tensors)
    return ToyAttributes(network, fingerprint)


def main() -> None:
    folder, identities = Path(sys.argv[1]), int((sys.argv[2:] or ["20"])[0])
    attribute, _, words = (sys.argv[3:] or ["yaw=-10,0,10"])[0].partition("=")
    targets = [float(word) for word in words.split(",")]
    config = ControlConfig(targets={attribute: targets})
    control, second = chosen(config, RANGES), second_reader(folder)
    assert control is not None
    by = {"its reader": load_attributes()} | ({} if RANGES[attribute].at_least else {"a second reader": second})
    readers = Readers(attribute, RANGES[attribute], by)
    renders = render_faces(identities, RENDERS, HELD_OUT_SEED).images_BHWC
    models = Models(ToyDiffusionGenerator(), load_recognizer(), attributes=load_attributes())
    references, judged = (centres(of.embed(renders), identities) for of in (models.recognizer, load_judge()))
    plan = Plan(seed=0, num_identities=identities, images_per_identity=len(targets), images_per_shard=10**6)
    found: dict[str, Any] = {}
    ways: dict[str, tuple[Control | None, int]] = {
        "not steered": (None, 1), "steered, one draw": (control, 1), f"steered, {ATTEMPTS} draws": (control, ATTEMPTS),
    }  # fmt: skip
    wanted: dict[str, float] = {}
    for name, (steered, attempts) in reversed(ways.items()):  # the targets are known from what is steered
        drawing = Drawing(Variation(beta=0.01), Gate(min_cosine=0.3), 30, attempts, 95, steered)
        began = time.perf_counter()
        shard = render_shard(plan, 0, Identities(references), models, drawing)
        wanted |= {s.key: s.control.attributes[attribute].target for s in shard.samples if s.control}
        found[name] = measured(shard.samples, wanted, readers, judged)
        found[name] |= {"draws": shard.statistics.draws, "seconds": round(time.perf_counter() - began, 1)}
        steps = [sample.control.steps for sample in shard.samples if sample.control]
        found[name] |= {"steps of a kept image, mean": round(float(np.mean(steps)), 2)} if steps else {}
        print(name, found[name], flush=True)
    keys = {key: getattr(config, key) for key in ("steps", "learning_rate", "identity_cosine")}
    described = {"identities": identities, attribute: targets, **keys, "second reader": second.fingerprint}
    described |= {"generator": "toy_diffusion, 8 steps, guidance 1.5", "threads": torch.get_num_threads()}
    record.write(f"control_reach_{attribute}", described, found)


if __name__ == "__main__":
    main()
