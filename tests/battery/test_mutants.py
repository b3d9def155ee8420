"""Thousands of small changes to files of every kind: each is read, or refused by one line of the product's own.

A child reads the mutants of one kind, within bounds of memory and time; BATTERY_SEED=N repeats one, MUTANTS=N takes as
many of each kind. The one that ended the child is kept for the message.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

import pytest

from hyperface.errors import ConfigError, EmbeddingError, ModelError, RunError, StorageError

SEED = int(os.environ.get("BATTERY_SEED", "0"))
MUTANTS = int(os.environ.get("MUTANTS", "300"))
MEMORY = 3 * 2**30
"""Bytes that reading may take besides what the process has."""
SECONDS = 20
"""Seconds that one mutant may take, most of which is for a loaded machine."""
OWN = (ConfigError, RunError, StorageError, EmbeddingError, ModelError)
KINDS = (
    "npy-C", "npy-F", "parquet", "parquet-plain", "bin", "bin-rows", "pairs", "pairs-csv", "ijb-face", "ijb-name",
    "ijb-temp", "labels", "recordio-rec", "recordio-idx", "faces-parquet", "onnx", "onnx-attributes", "weights",
    "safetensors", "pth-zip", "pth-old", "run-config.yaml", "run-provenance.json", "run-index.json",
    "run-fingerprint.json", "run-embed.jsonl", "run-shard-000001.json", "shard.parquet", "shard.tar", "marker",
    "quarantine", "rates", "config",
)  # fmt: skip
NUMBERS = [0, 1, 0x7F, 0xFF, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
WORDS = [
    b"9" * 5000,
    b"-1",
    b"1e400",
    b"NaN",
    b"null",
    b"[" * 5000,
    b"{",
    b'"',
    b"\n",
    b"\0",
    b"\xff",
    b"1:30",
    b"\xc2\x85",
]
"""Texts that may stand in place of something."""


def mutant(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, a cut, something inserted, left out, doubled or in another place, a number or word of harm."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, size = rng.randrange(len(made) + 1), rng.choice((1, 2, 4, 8, 16, 64))
        match rng.randrange(9):
            case 0 | 1 if made:
                made[at % len(made)] ^= 1 << rng.randrange(8)
            case 2:
                del made[at:]
            case 3:
                made[at:at] = rng.randbytes(size)
            case 4:
                del made[at : at + size]
            case 5:
                made[at:at] = made[at : at + size]
            case 6:
                other = rng.randrange(len(made) + 1)
                made[at : at + size], made[other : other + size] = made[other : other + size], made[at : at + size]
            case 7:
                width = rng.choice((1, 2, 4, 8))
                number = rng.choice(NUMBERS) % 256**width
                made[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
            case 8:
                made[at : at + rng.choice((0, 1, size))] = rng.choice(WORDS)
    return bytes(made)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_every_mutant_is_read_or_refused_in_one_line(tmp_path: Path, kind: str):
    words = [sys.executable, "-m", "tests.battery.test_mutants", kind, str(tmp_path), str(SEED), str(MUTANTS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = tmp_path / "found.jsonl"
    told = found.read_text() if found.exists() else ""
    assert (done.returncode, told) == (0, ""), f"{kind}: the last one is in {tmp_path}/mutant\n{done.stderr[-3000:]}"


def refused_well(error: BaseException) -> bool:
    text = str(error)
    own = isinstance(error, OWN) or (type(error) is ValueError and ": " in text)
    lines = text.split("\n  ")  # a list of ours has a line for each of what it names
    return own and all(line and "\n" not in line for line in lines) and len(text) < 2000 * len(lines)


def main(kind: str, folder: Path, seed: int, count: int) -> None:
    from tests.battery.small_files import kinds

    warnings.simplefilter("ignore")
    scratch = folder / "scratch"
    scratch.mkdir()
    files, target, read = dict(kinds(scratch))[kind]
    at = folder / "mutant"
    for name, data in files.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(data)
    read(at)  # as it is, and whatever is imported late
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for number in range(count):
        (at / target).write_bytes(mutant(files[target], random.Random(f"{seed} {kind} {number}")))
        (folder / "number").write_text(str(number))
        signal.alarm(SECONDS)
        try:
            read(at)
        except BaseException as error:
            if not refused_well(error):
                shutil.copy(at / target, folder / f"kept-{number}")
                where = traceback.format_exc().splitlines()[-6:]
                with (folder / "found.jsonl").open("a") as found:
                    found.write(json.dumps({"number": number, "error": repr(error)[:400], "where": where}) + "\n")
        signal.alarm(0)


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("took too long")))
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
