"""Pack the embeddings of a file in one process, on a GPU if there is one: without Ray and without a run directory.

python -m hyperface.packing faces.npy references.parquet alpha=0.5 steps=300
python -m hyperface.packing 512 references.npy num_identities=10000 start=random alpha=0
"""

import argparse
import json
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from hyperface import config as configuration
from hyperface import embeddings
from hyperface.config import Config, ConfigError
from hyperface.embeddings import EmbeddingError, Embeddings
from hyperface.packing import Packing, pack
from hyperface.packing.result import Progress
from hyperface.storage import StorageError

SHOWN_EVERY = 25


def main() -> int:
    arguments = _parsed()
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        packing = _packed(arguments)
    except (ConfigError, EmbeddingError, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    summary = {key: value for key, value in asdict(packing).items() if key != "references_ND"}
    print(json.dumps(summary, indent=1))
    return 0


def _parsed() -> argparse.Namespace:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m hyperface.packing", description=__doc__, formatter_class=shown)
    parser.add_argument("start", help="unit embeddings, .npy or .parquet; or a number of dimensions, for other starts")
    parser.add_argument("out", help="where references go, .npy or .parquet; must not exist")
    parser.add_argument("--gallery", default="", help="embeddings to stay near; default: those of START")
    parser.add_argument("--seed", type=int, default=0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help="as torch names it; default: %(default)s")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="as packing.key=value of a job; see jobs.pack")
    return parser.parse_args()


def _packed(arguments: argparse.Namespace) -> Packing:
    """The packing, written to where it was wanted; the summary comes last, and nothing that was there is replaced."""
    out = Path(arguments.out)
    if out.suffix not in (".npy", ".parquet"):
        raise ConfigError(f"{out}: references are written as .npy or .parquet")
    if out.exists():
        raise ConfigError(f"{out}: exists already; delete it or name another file")
    start_ND = _rows(arguments.start)
    config = _config(arguments.settings, start_ND)
    gallery_GD = _read(arguments.gallery) if arguments.gallery else start_ND if len(start_ND) else None
    packing = pack(
        start_ND,
        config,
        seed=arguments.seed,
        gallery_GD=gallery_GD,
        frozen_FD=_read(config.frozen) if config.frozen else None,
        protected_PD=_read(config.protected) if config.protected else None,
        on_step=_tell,
        device=arguments.device,
    )
    first = config.first_identity
    identities = list(range(first, first + len(packing.references_ND)))
    with out.open("xb") as file:
        if out.suffix == ".npy":
            np.save(file, packing.references_ND)
        else:
            file.write(embeddings.to_parquet("identity", Embeddings(identities, packing.references_ND)))
    return packing


def _rows(start: str) -> np.ndarray:
    """The rows of a file, or none of so many dimensions."""
    return np.empty((0, int(start)), np.float32) if start.isdecimal() else _read(start)


def _read(path: str) -> np.ndarray:
    return embeddings.read_rows(path, configuration.StorageConfig())


def _config(settings: list[str], start_ND: np.ndarray) -> configuration.PackingConfig:
    """As many identities as rows, unless another number is given."""
    rows = [f"num_identities={len(start_ND)}"] if len(start_ND) else []
    words = [f"packing.{word}" for word in (*rows, *settings)]
    # The gallery here is a file: how many faces a job would embed says nothing about it.
    given = configuration.load(None, ["run.dir=unused", "embed.num_faces=10000000", *words])
    assert isinstance(given, Config)
    return replace(given.packing, num_workers=1)


def _tell(progress: Progress) -> None:
    if progress.step % SHOWN_EVERY == 0:
        gallery = "" if progress.mean_gallery_cosine is None else f" gallery {progress.mean_gallery_cosine:.4f}"
        told = f"step {progress.step} max cosine {progress.max_cosine:.4f}{gallery} {progress.seconds:.1f} s"
        print(told, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
