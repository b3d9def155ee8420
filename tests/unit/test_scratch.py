"""A directory of a process ends with it, and what a killed process left ends with the next one's start."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from hyperface.storage.scratch import PREFIX, scratch, sweep

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from hyperface.storage.scratch import scratch
with scratch(sys.argv[1]) as made:
    print(made, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path):
    others = [tmp_path / f"{PREFIX}of-a-script", tmp_path / "of-somebody"]
    for other in others:
        other.mkdir()
    link = tmp_path / f"{PREFIX}link"
    link.symlink_to(others[1])
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        left = Path(holder.stdout.readline().strip())
        with scratch(str(tmp_path)) as mine:
            assert left.is_dir(), "its owner lives"
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
            (left / "ray").mkdir()
            sweep(str(tmp_path))
            assert not left.exists()
            assert Path(mine).is_dir(), "this process lives"
    assert sorted(tmp_path.iterdir()) == sorted([*others, link])


def test_what_was_made_again_after_its_owner_and_holds_nothing_is_swept_when_it_is_old(tmp_path: Path):
    again, young, held, elsewhere = (tmp_path / f"{PREFIX}{name}" for name in ("again", "young", "held", "linked"))
    elsewhere.symlink_to(tmp_path / "of-somebody")
    for folder in (again, young, held, tmp_path / "of-somebody"):
        (folder / "ray" / "session").mkdir(parents=True)
    (held / "ray" / "log").touch()
    with scratch(str(tmp_path)) as living:
        Path(living, "ray", "empty").mkdir(parents=True)
        for folder in (again, held, tmp_path / "of-somebody", Path(living)):
            os.utime(folder, (0, 0))
        sweep(str(tmp_path))
        assert Path(living, "ray", "empty").is_dir()
    assert not again.exists()
    for folder in (young, held, tmp_path / "of-somebody"):
        assert (folder / "ray" / "session").is_dir()


def test_a_directory_of_another_machine_in_a_shared_place_is_left_alone(tmp_path: Path):
    far = tmp_path / f"{PREFIX}far"
    far.mkdir()
    (far / "owner").write_text("another-machine")
    sweep(str(tmp_path))
    assert far.is_dir()


def test_a_directory_is_for_its_owner_alone_and_gone_after_the_block(tmp_path: Path):
    with scratch(str(tmp_path)) as made:
        assert Path(made).stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.iterdir())
