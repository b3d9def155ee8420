"""Tests of every bit of the headers of a small archive, and of random damage of a larger one."""

import os
import random
import tarfile
from pathlib import Path

import pytest
from damaged_tar import ARCHIVES, BLOCK, Folder, flip_bits, headers, packed

pytestmark = pytest.mark.timeout(1800)
SEED = int(os.environ.get("BATTERY_SEED", "0"))


@pytest.mark.parametrize("name", ARCHIVES)
def test_no_bit_of_a_header_loses_a_member_without_a_word(tmp_path: Path, name: str):
    flip_bits(Folder(tmp_path), ARCHIVES[name], range(len(headers(ARCHIVES[name])) * BLOCK * 8))


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_damage_anywhere_is_a_refusal_or_leaves_every_member_counted(tmp_path: Path, kind: int):
    folder, data, rng = Folder(tmp_path), packed(40, kind, text=False), random.Random(SEED)
    end = headers(data)[-1]
    for trial in range(1000):
        place, length = rng.randrange(end), rng.choice([1, 2, 16, 511, 512, 513, 4096])
        length = min(length, end - place)
        middle = rng.choice([bytes(length), rng.randbytes(length), b"\xff" * length, b"", b"\0" * (length + 512)])
        if not middle and length % 1024 == 0:
            continue  # whole members may be missing then, and the format has no count of them
        found = folder.outcome(data[:place] + middle + data[place + length :])
        assert found is None or len(found[0]) + len(found[1]) + found[2].total() == 40, (SEED, trial)
