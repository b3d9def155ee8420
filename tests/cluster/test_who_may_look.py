"""Tests of what another user of the machine, and another machine, find of a Ray that a job starts."""

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest
from ray.cloudpickle import register_pickle_by_value

from cluster.session import LONGEST_PLACE, scratch

NOBODY = 65534

register_pickle_by_value(sys.modules[__name__])  # the workers have no path to the tests


def as_nobody(*command: str | Path) -> str:
    done = subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, check=False
    )
    return f"{done.stdout} {done.stderr}".strip() if done.returncode else "done"


@pytest.fixture
def session(ray_cluster: str) -> Path:
    """The directory of a running Ray."""
    import ray

    return Path(ray._private.worker._global_node.get_session_dir_path())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_cannot_list_or_read_or_replace_anything_of_a_ray(session: Path):
    log, socket = session / "logs/raylet.out", session / "sockets/raylet"
    assert log.exists()
    assert socket.is_socket()
    tried = [
        as_nobody("ls", session.parents[1]),
        as_nobody("ls", session / "logs"),
        as_nobody("cat", log),
        as_nobody("rm", "-f", socket),
        as_nobody("mv", session / "sockets", session / "elsewhere"),
        as_nobody("touch", session.parent / "left"),
        as_nobody("mv", session.parents[1], f"{session.parents[1]}-elsewhere"),
    ]
    assert all("ermission denied" in said or "not permitted" in said for said in tried), tried


def test_a_ray_lies_in_a_directory_of_ours_alone(session: Path):
    ours = session.parents[1].lstat()
    assert (stat.filemode(ours.st_mode), ours.st_uid) == ("drwx------", os.geteuid())


def test_the_temporary_directory_is_used_where_a_socket_in_it_has_a_short_enough_path(
    monkeypatch: pytest.MonkeyPatch,
):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        assert Path(scratch()).parent == Path(short)
        long = Path(short, "ü" * LONGEST_PLACE)
        long.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(long))
        assert Path(scratch()).parent == Path("/tmp")


def listeners(processes: Iterable[psutil.Process]) -> set[tuple[str, str]]:
    """(name, address) of what listens elsewhere than on loopback."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it has ended
            sockets = [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
            found |= {(process.name(), one.laddr.ip) for one in sockets if not one.laddr.ip.endswith("127.0.0.1")}
    return found


@pytest.mark.usefixtures("ray_cluster")
def test_a_ray_of_one_machine_listens_on_loopback_alone():
    import ray

    assert ray.get(ray.remote(listeners).remote([])) == set()  # a worker is up
    own = [psutil.Process(), *psutil.Process().children(recursive=True)]
    assert {"gcs_server", "raylet"} <= {process.name() for process in own}
    assert listeners(own) == set()
