"""Pack the embeddings of a file in one process, on a GPU if there is one: without Ray and without a run directory.

python -m hyperface.packing faces.npy references.parquet alpha=0.5 steps=300
python -m hyperface.packing 512 references.npy num_identities=20000 start=algebraic alpha=0 steps=0
python -m hyperface.packing 512 references.npy num_identities=20000 start=rejection start_cosine=0.3 alpha=0 steps=0
"""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hyperface import config as configuration
from hyperface.config import PackingConfig, StorageConfig
from hyperface.errors import ConfigError, UserError
from hyperface.faces import embeddings
from hyperface.faces.embeddings import Embeddings
from hyperface.packing import Packing, keep_away, pack, stage
from hyperface.packing.result import Progress
from hyperface.progress.meter import Meter
from hyperface.run import command_line


def main() -> int:
    arguments = _parsed()
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        packing = _packed(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(stage.summary_line(packing))
    print(f"references   {arguments.out}\ncertificate  {_certificate(arguments.out)}")
    return 0


def _parsed() -> argparse.Namespace:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m hyperface.packing", description=__doc__, formatter_class=shown)
    parser.add_argument(
        "start", help="unit embeddings, .npy or .parquet, all packed by default; for start=random, algebraic or "
        "rejection also just their number of dimensions"
    )  # fmt: skip
    parser.add_argument("out", help="where references go, .npy or .parquet, with a .json of the same name beside it")
    parser.add_argument("--gallery", default="", help="embeddings to stay near; default: those of START")
    parser.add_argument("--seed", type=int, default=0, help="of everything random; default: %(default)s")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help="default: cuda where there is a GPU, else cpu")
    described = "any packing.key of `python -m jobs.pack --help` but those of workers and checkpoints"
    parser.add_argument("settings", nargs="*", default=[], metavar="key=value", help=described)
    return parser.parse_intermixed_args()


def _packed(arguments: argparse.Namespace) -> Packing:
    """Pack, and write the packing to where it was wanted; what keeps it from being written is found out before."""
    out = Path(arguments.out).expanduser()
    _refuse_out(out)
    _refuse_device(arguments.device)
    start_ND, norms_N = _rows(arguments.start)
    config = _config(arguments.settings, start_ND)
    if not len(start_ND) and config.start in ("gallery", "pca"):
        wanted = "add start=random, algebraic or rejection, alpha=0 and num_identities, or name a file"
        raise ConfigError(f"START={arguments.start} is a number of dimensions: {wanted}")
    frozen_FD, protected_PD = keep_away.read(config, StorageConfig())
    packing = pack(
        start_ND,
        config,
        seed=arguments.seed,
        gallery_GD=_read(arguments.gallery) if arguments.gallery else start_ND if len(start_ND) else None,
        frozen_FD=frozen_FD,
        protected_PD=protected_PD,
        norms_N=norms_N,
        on_step=_teller(config.steps),
        on_draw=stage.draw_teller(config.num_identities, _say),
        device=arguments.device,
    )
    first = config.first_identity
    identities = list(range(first, first + len(packing.references_ND)))
    with out.open("xb") as file:
        if out.suffix == ".npy":
            if packing.norms_N is not None:
                warnings.warn(f"{out}: holds directions only; name a .parquet to keep the norms too", stacklevel=1)
            np.save(file, packing.references_ND)
        else:
            table = Embeddings(identities, packing.references_ND, packing.norms_N)
            file.write(embeddings.to_parquet("identity", table))
    _certificate(str(out)).write_text(json.dumps(packing.numbers, indent=1) + "\n")
    return packing


def _certificate(out: str) -> Path:
    return Path(out).with_suffix(".json")


def _refuse_out(out: Path) -> None:
    if out.suffix not in (".npy", ".parquet"):
        raise ConfigError(f"{out}: references are written as .npy or .parquet")
    if not (out.parent.is_dir() and os.access(out.parent, os.W_OK)):
        raise ConfigError(f"{out}: {out.parent} is not a folder that can be written to; make it or name another")
    for path in (out, _certificate(str(out))):
        if path.exists():
            raise ConfigError(f"{path}: exists already; delete it or name another file")


def _refuse_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {device}: cannot be used ({reason}); leave it out or take cpu") from error


def _rows(start: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the rows of a file and the norms that it has for them, or none of so many dimensions."""
    if start.isdecimal():
        return np.empty((0, int(start)), np.float32), None
    found = embeddings.read_file(start, StorageConfig())
    return found.vectors_ND, found.norms


def _read(path: str) -> np.ndarray:
    return embeddings.read_file(path, StorageConfig()).vectors_ND


def _config(settings: list[str], start_ND: np.ndarray) -> PackingConfig:
    """Return the configuration: as many identities as rows, unless another number is given."""
    rows = [f"num_identities={len(start_ND)}"] if len(start_ND) else []
    return configuration.load_packing([*rows, *settings])


def _teller(steps: int) -> Callable[[Progress], None]:
    """Return a function that says now and then how far the packing is."""
    meter = Meter("packing", steps, "steps", say=_say)
    return lambda progress: meter.reach(progress.step + 1, extra=lambda: stage.progress_text(progress))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    with command_line.printing():
        sys.exit(main())
