"""Measurement of how well a small Vec2Face draws people it never saw, against the plain decoder of the same network.

    python -m tests.benchmarks.bench_vec2face_faces RUN [--name vec2face] [--plain plain]

RUN holds two trainings of jobs.train_generator, made with jobs/configs/toy_vec2face.yaml:

    python -m jobs.train_generator RUN
    python -m jobs.train_generator RUN train_generator.name=plain train_generator.perceptual=0 \\
        train_generator.ssim=0 train_generator.token=0 train_generator.identity=0 \\
        train_generator.mask_min=0 train_generator.mask_mean=0 train_generator.mask_std=0.01

The toy world's held-out identities are embedded, by the mean of five renders or by one (`single`), and drawn. The
recogniser guided one of the trainings, so its cosines prove little there; the judge guided none, and compares with
renders of the same identity.
"""

import argparse
import json
from pathlib import Path

from hyperface.config import Vec2FaceConfig
from hyperface.models.toy.faces import HELD_OUT_SEED, render_faces
from hyperface.models.toy.measure import describe_generator, laplacian_variance
from hyperface.models.toy.recognizer import load_judge, load_recognizer
from hyperface.models.vec2face import Vec2FaceGenerator
from tests.benchmarks import record

RENDERS_EACH = 6


def trained(run: Path, name: str) -> tuple[Vec2FaceGenerator, dict[str, object]]:
    """A generator, and what its training says of itself."""
    summary = json.loads((run / "generator" / name / "summary.json").read_text())
    path, size = run / "generator" / name / "generator.safetensors", summary["train_generator"]["size"]
    generator = Vec2FaceGenerator(Vec2FaceConfig(path=str(path), sha256=summary["sha256"], size=size), device="cpu")
    kept = ("train_generator", "data", "steps", "seconds", "workers", "device", "terms")
    return generator, {key: summary[key] for key in kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default="vec2face")
    parser.add_argument("--plain", default="plain")
    parser.add_argument("--identities", type=int, default=400)
    chosen = parser.parse_args()
    recognizer, judge = load_recognizer(), load_judge()
    faces = render_faces(chosen.identities, RENDERS_EACH, HELD_OUT_SEED)
    seen, judged = (
        network.embed(faces.images_BHWC).reshape(chosen.identities, RENDERS_EACH, -1) for network in (recognizer, judge)
    )
    sharpness = float(laplacian_variance(faces.images_BHWC).mean())
    settings: dict[str, object] = {"identities": chosen.identities}
    measured: dict[str, object] = {}
    for label, name in (("vec2face", chosen.name), ("plain decoder", chosen.plain)):
        if (chosen.run / "generator" / name / "summary.json").exists():
            generator, settings[label] = trained(chosen.run, name)
            measured[label] = describe_generator(generator, recognizer, judge, seen, judged, sharpness)
    record.write("vec2face_faces", settings, measured)


if __name__ == "__main__":
    main()
