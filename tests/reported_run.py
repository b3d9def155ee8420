"""A finished run of the small world with everything that its page can show: verified, audited, with traits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from audited_run import embed_gallery, put_faces
from color_world import BLOCK, DIM, SIZE, ColorGenerator, ColorRecognizer, color_config, make_dataset, references
from finished_run import ColorJudge
from numpy.typing import NDArray

from hyperface.audit.auditor import Auditor, audit_here
from hyperface.config import Config, without_knobs
from hyperface.dataset.source import open_source
from hyperface.experiment import comparison as experiment
from hyperface.models.protocols import Preprocessing
from hyperface.packing import stage
from hyperface.packing.partition import one_process
from hyperface.run import Run, open_run
from hyperface.run.names import GALLERY, VERIFICATION
from hyperface.verification.pair_set import PairSet
from hyperface.verification.stage import verify_on

TRAITS = [f"trait {i:02d}" for i in range(14)]
TRAINING = {
    "train": {
        "recipe": "arcface_r50",
        "backbone": "iresnet50",
        "head": "arcface",
        "epochs": 26,
        "squeeze_excitation": False,
    },
    "data": {"images": 500_000, "classes": 10_000},
}


@dataclass(frozen=True)
class ColorFeatures(ColorRecognizer):
    """The recogniser of the small world, with features of any norm."""

    preprocessing: Preprocessing = Preprocessing()

    def features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (images_BHWC.reshape(-1, 2, BLOCK, 2, BLOCK, 3).mean((2, 4)).reshape(-1, DIM) - 128).astype(np.float32)


@dataclass(frozen=True)
class ColorTraits:
    """Reads a trait from every colour, and two of their differences."""

    embedding_dim: int = len(TRAITS)
    image_size: int = SIZE
    fingerprint: str = "7a" * 32

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen_BD = ColorRecognizer().embed(images_BHWC)
        return np.concatenate([seen_BD, seen_BD[:, :2] - seen_BD[:, 2:4]], axis=1)


def packed_run(directory: Path, faces: int = 160, *overrides: str) -> Run:
    """Six identities of five images, packed from a gallery of pictures, beside the run in `directory`/faces."""
    put_faces(directory / "faces", faces)
    given = [f"embed.source={directory / 'faces'}", "packing.steps=12", "run.seed=3", *overrides]
    run = open_run(color_config(directory / "run", *given))
    run.store.put(GALLERY, embed_gallery(run.config))
    run.record("embed", [{"event": "finished", "faces": faces, "seconds": 2.0}])
    stage.pack_rows(run, one_process(run.config.packing.num_identities), torch.device("cpu"))
    make_dataset(run, ColorGenerator())
    run.record("synthesis", [{"event": "finished", "seconds": 4.0}])
    return run


def pair_set(name: str, source: str = "", pairs: int = 60, seed: int = 0) -> PairSet:
    """Every other pair shows one person, whose second picture differs by noise."""
    rng, drawn = np.random.default_rng(seed), ColorGenerator()
    first_PD, second_PD = references(pairs, seed), references(pairs, seed + 1000)
    same_P = np.arange(pairs) % 2 == 0
    second_PD[same_P] = first_PD[same_P] + rng.normal(0, 0.25, (int(same_P.sum()), DIM))
    second_PD /= np.linalg.norm(second_PD, axis=1, keepdims=True)
    images = drawn.generate(np.concatenate([first_PD, second_PD]), range(2 * pairs))
    return PairSet(name, source or f"/faces/{name}.bin", images, np.arange(pairs), pairs + np.arange(pairs), same_P)


def put_verification(run: Run, label: str, sets: Sequence[PairSet], **model: Any) -> dict[str, Any]:
    """The record that jobs.evaluate writes of a recogniser; a student unless `model` says another kind."""
    described = {"kind": "trained", "fingerprint": "5e" * 32, "training": TRAINING} | model
    measured = {pairs.name: verify_on(pairs, ColorFeatures(), 64) for pairs in sets}
    record = {"model": described, "sets": measured}
    run.put_json(f"{VERIFICATION}/{label}.json", record)
    return record


def put_audit(run: Run, **keys: Any) -> Mapping[str, Any]:
    """The records that jobs.audit writes, with traits that a model reads."""
    wanted = replace(run.config.audit, **{"attribute_names": TRAITS, "attributes": "onnx", "controls": 20, **keys})
    run = replace(run, config=replace(run.config, audit=wanted))
    networks = {"recognizer": ColorRecognizer(), "judge": ColorJudge()}
    return audit_here(Auditor(open_source(run), networks, ColorTraits()))


def summary(config: Config, accuracy: Mapping[str, float], repeats: int = 3) -> dict[str, Any]:
    """Return what jobs.experiment writes, of accuracies by the name of the arm; 0.8 where none is given."""
    results = []
    for repeat in range(repeats):
        for arm in experiment.arms(config):
            mean = accuracy.get(arm.name, 0.8) + 0.01 * repeat
            sets = {"easy": mean + 0.1, "pose": mean, "light": mean, "hard": mean - 0.1, "mean": mean}
            names = ("intra_cosine", "inter_cosine", "nearest_other_cosine", "equal_error_rate")
            results.append({"arm": arm.name, "repeat": repeat, "accuracy": sets, "identity": dict.fromkeys(names, 0.3)})
    sections = {"train": without_knobs(config.train), "experiment": without_knobs(config.experiment)}
    rows = experiment.table(experiment.arms(config), results)
    sizes = {"identities": 300, "images": 3000, "repeats": repeats, "folds": 10}
    return {"arms": rows, **sections, "provenance": {"git_sha": "abc"}, **sizes}
