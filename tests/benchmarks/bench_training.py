"""images/s of training, of its loader alone, and of the network alone on images that are there already, in one run.

    python -m tests.benchmarks.bench_training [--backbone small|iresnet50] [--size 64|112] [--batch 128] [--steps 20]
        [--images 4000] [--classes 0] [--sample-rate 1] [--threads 2] [--repeats 5] [--precision float32|bfloat16]

The three take turns. Images are JPEGs of rendered faces in a finished run on the local disk, which the loader reads,
checks and decodes. `--classes` gives the head centres of so many classes, of which the images use the first ones:
Partial FC at scale. On a GPU if there is one.
"""

import argparse
import contextlib
import itertools
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hyperface import config as configuration
from hyperface.dataset import jpeg
from hyperface.distributed.place import Place
from hyperface.distributed.ranks import Alone
from hyperface.models.toy.faces import render_faces
from hyperface.run import existing_run
from hyperface.training import loader, loop
from hyperface.training.images import Images
from hyperface.training.recognizer.trainer import RecognizerTraining
from hyperface.training.sources import open_images
from tests.benchmarks import record
from tests.benchmarks.bench_export import make


@dataclass
class More:
    """A set of the same images, among more classes than they show."""

    images: Images
    num_classes: int

    def __getattr__(self, name: str) -> Any:
        return getattr(self.images, name)


def jpegs(size: int) -> list[bytes]:
    """300 rendered faces."""
    faces = render_faces(100, 3, seed=77).images_BHWC
    resized = (Image.fromarray(face).resize((size, size), Image.Resampling.BICUBIC) for face in faces)
    return [jpeg.encode(np.asarray(face), 95) for face in resized]


def prepared(chosen: argparse.Namespace, folder: str, device: torch.device) -> RecognizerTraining:
    make(Path(folder), chosen.images, jpegs(chosen.size))
    run = existing_run(folder)
    given = [f"train.backbone={chosen.backbone}", f"train.batch_size={chosen.batch}", "train.epochs=1000000"]
    given += [f"train.precision={chosen.precision}", f"train.sample_rate={chosen.sample_rate}"]
    config = configuration.load(None, ["run.dir=.", f"train.loader_threads={chosen.threads}", *given]).train
    images = open_images(run, config.data)
    more = More(images, max(chosen.classes, images.num_classes))
    training = RecognizerTraining(config, more, Place(0, 1, Alone(), device), chosen.size)
    training.parallel.train()
    return training


def parts(training: RecognizerTraining) -> Iterator[loader.Part]:
    """Yield what the loader gives, epoch after epoch."""
    for epoch in itertools.count():
        own, order = training.place.streams(training.config.streams), loader.order_of(0, epoch)
        threads, size = training.config.loader_threads, training.image_size
        read = loader.batches(training.images, training.steps, own, order, 0, size, threads)
        with contextlib.closing(read):
            yield from read


def timed(step: Callable[[], object], steps: int) -> float:
    """Seconds of so many steps, after those that were read ahead while others were timed."""
    for _ in range(1 + loader.AHEAD):
        step()
    wait_for_device()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    wait_for_device()
    return time.perf_counter() - began


def wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def report(chosen: argparse.Namespace, training: RecognizerTraining, rates: dict[str, list[float]]) -> None:
    gpu = training.place.device.type == "cuda"
    measured: dict[str, Any] = {f"{name}, images/s": record.spread(values) for name, values in rates.items()}
    for name in ("training", "loader alone"):
        ratios = [a / b for a, b in zip(rates[name], rates["network alone"], strict=True)]
        measured[f"{name}, times the network alone"] = record.spread(ratios)
    if gpu:
        measured["peak GPU memory, GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    else:
        measured["peak memory of the process, GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    settings = {
        **vars(chosen),
        "head": training.config.head,
        "classes in the head": training.images.num_classes,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "threads of torch": torch.get_num_threads(),
    }
    record.write(f"training_{chosen.backbone}_{training.place.device.type}", settings, measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--classes", type=int, default=0)
    parser.add_argument("--sample-rate", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", default="float32")
    chosen = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="hyperface-bench-") as folder:
        training = prepared(chosen, folder, device)
        with contextlib.closing(parts(training)) as loaded, contextlib.closing(loop.steps_left(training)) as trained:
            there = next(loaded)
            ways = {
                "loader alone": lambda: next(loaded),
                "network alone": lambda: training.take(*there),
                "training": lambda: next(trained),
            }
            for _ in range(chosen.repeats):
                for name, step in ways.items():
                    rates.setdefault(name, []).append(chosen.steps * chosen.batch / timed(step, chosen.steps))
        report(chosen, training, rates)


if __name__ == "__main__":
    main()
