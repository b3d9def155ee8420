"""The surface that no change of structure may move: references, shards and messages, as hashes and texts.

`python -m tests.goldens.goldens > tests/goldens/goldens.json` writes it anew, where a change of bytes is meant.
`tests/unit/test_goldens.py` starts this in an environment whose arithmetic is the same on every x86-64 processor.
"""

import contextlib
import hashlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray

from hyperface import config as configuration
from hyperface.config import Config
from hyperface.errors import ConfigError
from hyperface.faces import gallery, source
from hyperface.faces.embeddings import to_parquet
from hyperface.models.loading import load_models, load_recognizer
from hyperface.packing import pack, stage
from hyperface.packing.partition import one_process
from hyperface.run import Run, open_run
from hyperface.run.names import DATASET, GALLERY, REFERENCES
from hyperface.synthesis import single

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_CORETYPE": "Haswell",
}
"""Libraries choose their kernels by the processor, and kernels round differently."""

IDENTITIES, DIM = 24, 8


def main() -> None:
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # it has kernels of its own for each processor
    with contextlib.redirect_stdout(sys.stderr):  # the stages say how far they are
        found = {"references": references(), "shards": shards(), "messages": messages()}
    print(json.dumps(found, indent=1, sort_keys=True))


def references() -> dict[str, str]:
    """The hash of the packed rows, for every separation with and without gallery, frozen and protected rows."""
    gallery_GD, frozen_FD, protected_PD = (_rows(count, seed) for seed, count in enumerate((60, 6, 6)))
    others = {"gallery": {"gallery_GD": gallery_GD}, "frozen": {"frozen_FD": frozen_FD}}
    others["protected"] = {"protected_PD": protected_PD}
    separations = get_args(get_type_hints(configuration.PackingConfig)["separation"])
    found = {}
    for separation, chosen in itertools.product(separations, _subsets(list(others))):
        rows = {key: value for name in chosen for key, value in others[name].items()}
        alpha = "0.5" if "gallery" in chosen else "0"
        words = [f"packing.separation={separation}", f"packing.alpha={alpha}", "packing.protected_cosine=0.6"]
        packing = pack(gallery_GD, _config("unused", *words).packing, seed=1, **rows)
        found[" ".join((separation, *chosen))] = _hash(packing.references_ND.tobytes())
    return found


def shards() -> dict[str, str]:
    """The hash of every file of the dataset that `toy.yaml` makes of a few identities, in both formats."""
    with tempfile.TemporaryDirectory() as folder:
        config = configuration.load("jobs/configs/toy.yaml", [f"run.dir={folder}/run", *_small()])
        run = open_run(config)
        _embed(run)
        stage.pack_rows(run, one_process(config.packing.num_identities), torch.device("cpu"))
        single.make_dataset(run, load_models(config))
        names = [name for name in run.store.list(DATASET) if "/_done/" not in name and not name.endswith(".md")]
        return {name: _hash(run.store.read(name)) for name in [GALLERY, REFERENCES, *names]}


def messages() -> dict[str, list[str]]:
    """Return every rule that is broken when all numbers are as given, and the message to a value of the wrong type."""
    kinds = dict(_keys(Config))
    found = {}
    for value in ("-1", "0", "1000000000"):
        words = [f"{key}={value}" for key, kind in kinds.items() if kind in (int, float)]
        found[f"numbers {value}"] = _refusal(*words)
    for key in ("run.seed=x", "packing.alpha=x", "packing.polish=perhaps", "packing.startt=random", "packing=1"):
        found[key] = _refusal(key)
    for key, kind in kinds.items():
        if get_origin(kind) is Literal:
            found[f"{key}=nothing"] = _refusal(f"{key}=nothing")
    return found


def _refusal(*words: str) -> list[str]:
    try:
        _config("unused", *words)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def _keys(section: type, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, kind in get_type_hints(section).items():
        if hasattr(kind, "__dataclass_fields__"):
            yield from _keys(kind, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", kind


def _embed(run: Run) -> None:
    recognizer = load_recognizer(run.config.recognizer)
    chunks = source.plan_chunks(run.config.embed, run.config.storage)
    faces = [face for chunk in chunks for face in gallery.embed_chunk(chunk, run.config, recognizer)]
    run.store.put_new(GALLERY, to_parquet("key", gallery.assemble(faces, run.config.embed.num_faces).embeddings))


def _small() -> list[str]:
    small = {"embed.num_faces": 12, "packing.num_identities": 3, "synthesis.images_per_identity": 2}
    small |= {"synthesis.images_per_shard": 3, "packing.steps": 6}
    return [f"{key}={value}" for key, value in small.items()]


def _config(folder: str, *words: str) -> Config:
    given = [f"run.dir={folder}", f"packing.num_identities={IDENTITIES}", "packing.steps=12"]
    return configuration.load(None, [*given, *words])


def _rows(count: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)) + 0.5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    for size in range(len(names) + 1):
        yield from itertools.combinations(names, size)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


if __name__ == "__main__":
    main()
