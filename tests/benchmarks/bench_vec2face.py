"""Vec2Face's parts, each measured for itself: python -m tests.benchmarks.bench_vec2face PART [key=value ...]

control: steps of attribute control per second, all images of a batch at once and one image at a time, with the toy
world's diffusion generator. Targets are out of reach, so that every image takes all steps.

sampling: identities per second and memory against the plain batched rejection; see bench_vec2face_sampling.py.

generator: images per second of Vec2Face's network, in one batched pass and one image at a time; size base, or small=1.
"""

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperface.config import Vec2FaceConfig
from hyperface.models.protocols import AttributeRange
from hyperface.models.toy.attributes import load_attributes
from hyperface.models.toy.diffusion_generator import ToyDiffusionGenerator
from hyperface.models.toy.faces import HELD_OUT_SEED, render_faces
from hyperface.models.toy.recognizer import load_recognizer
from hyperface.models.vec2face import Made, Vec2FaceGenerator, to_bytes
from hyperface.models.vec2face_network import SIZES, Size, Vec2FaceNetwork
from hyperface.synthesis.attribute_control import Settings, steer
from tests.benchmarks import record
from tests.benchmarks.bench_vec2face_sampling import sampling_part


def control(images: int = 32, steps: int = 5, diffusion_steps: int = 2, repeats: int = 5) -> None:
    """Both ways take turns; the first turn is not counted."""
    generator, look = ToyDiffusionGenerator(steps=diffusion_steps, guidance=1.0), load_recognizer()
    reader = load_attributes()
    rows = torch.from_numpy(look.embed(render_faces(images, 1, HELD_OUT_SEED).images_BHWC))
    away = [AttributeRange(-1e6, 1e6, tolerance=5.0)]

    def steered(part: slice) -> torch.Tensor:
        found = steer(
            rows[part],
            range(images)[part],
            rows[part],
            torch.full((len(rows[part]), 1), 1e6),
            away,
            generator.decode,
            look.features_of,
            lambda pictures: reader.values(pictures)[:, :1],
            Settings(steps=steps),
        )
        assert found.steps_B == [steps] * len(rows[part])
        return found.rows_Bd

    ways: dict[str, Callable[[], list[torch.Tensor]]] = {
        "batched": lambda: [steered(slice(0, images))],
        "one at a time": lambda: [steered(slice(i, i + 1)) for i in range(images)],
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(1 + repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                rates[name].append(images * steps / (time.perf_counter() - began))
    gain = [many / one for many, one in zip(rates["batched"], rates["one at a time"], strict=True)]
    measured: dict[str, Any] = {f"{name}, steps of an image per second": record.spread(r) for name, r in rates.items()}
    measured["batched, times one at a time"] = record.spread(gain)
    apart = np.abs((torch.cat(ways["batched"]()) - torch.cat(ways["one at a time"]())).numpy()).max()
    measured["largest difference of a coordinate between the two"] = float(apart)
    settings = {"images": images, "steps": steps, "diffusion_steps": diffusion_steps, "repeats": repeats}
    record.write("vec2face_control", {**settings, "threads": torch.get_num_threads(), "device": "cpu"}, measured)


def generator(images: int = 32, repeats: int = 5, small: int = 0) -> None:
    """Both ways take turns; the first turn is not counted. Random weights: their values cost nothing."""
    size: Size = "small" if small else "base"
    gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory(prefix="hyperface-bench-") as folder:
        architecture, path = SIZES[size], Path(folder) / "generator.safetensors"
        made = Made(size, architecture.embedding_dim, architecture.image_size, norm=22.0)
        path.write_bytes(to_bytes(Vec2FaceNetwork(architecture), made))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        precision = "bfloat16" if gpu else "float32"
        drawn = Vec2FaceGenerator(Vec2FaceConfig(path=str(path), sha256=sha256, size=size, precision=precision))
    rows = np.random.default_rng(0).standard_normal((images, drawn.embedding_dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "batched": lambda: drawn.generate(rows, range(images)),
        "one at a time": lambda: np.concatenate([drawn.generate(rows[[i]], [i]) for i in range(images)]),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(1 + repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                rates[name].append(images / (time.perf_counter() - began))
    gain = [many / one for many, one in zip(rates["batched"], rates["one at a time"], strict=True)]
    measured: dict[str, Any] = {f"{name}, images/s": record.spread(values) for name, values in rates.items()}
    measured["batched, times one at a time"] = record.spread(gain)
    apart = np.abs(ways["batched"]().astype(int) - ways["one at a time"]().astype(int)).max()
    measured["largest difference of a grey level between the two"] = int(apart)
    device = torch.cuda.get_device_name() if gpu else "cpu"
    settings = {"size": size, "images": images, "repeats": repeats, "precision": precision, "device": device}
    record.write(f"vec2face_generator_{size}", {**settings, "threads": torch.get_num_threads()}, measured)


PARTS: dict[str, Callable[..., None]] = {"control": control, "generator": generator, "sampling": sampling_part}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in PARTS:
        raise SystemExit(f"{__doc__}\nPART is one of {', '.join(PARTS)}")
    given = (word.split("=", 1) for word in sys.argv[2:])
    PARTS[sys.argv[1]](**{key: int(value) for key, value in given})


if __name__ == "__main__":
    main()
