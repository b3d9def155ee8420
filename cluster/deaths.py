"""The end of a job whose Ray has died: Ray itself waits for a minute, and ends the process with lines of its own."""

import contextlib
import os
import shutil
import signal
import socket
import threading
import time

import psutil  # Ray brings it along
import ray

from hyperface.progress import logs

LEAST_ROOM = 2**20
"""Least bytes on the disk of Ray's own directory."""
LOOK_SECONDS = 0.5
ASK_SECONDS = 5.0
"""Seconds between questions to the head of a cluster."""
GO_SECONDS = 1.0
"""Time that processes of a Ray that was ended have to go by themselves."""
LEAVE_SECONDS = 8.0
"""Seconds that a job whose Ray has died may take to leave: what waits for a dead Ray never returns."""
RAYS_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
NEEDED = ("gcs_server", "raylet")
"""Processes without which Ray does nothing any more."""


def is_full(place: str) -> bool:
    """Return whether Ray could not write what it needs to start a process."""
    try:
        return shutil.disk_usage(place).free < LEAST_ROOM
    except FileNotFoundError:
        return False


class Watch:
    """A watch over the Ray of this process while a block runs; the main thread is made to leave it when Ray dies."""

    def __init__(self) -> None:
        self.died = ""
        """Reason why Ray cannot go on: the name of a process that has died, and how, or a disk that is full."""
        self._others = list[psutil.Process]()
        self._heard = self._asked = time.monotonic()
        self._over, self._left, self._one = threading.Event(), threading.Event(), threading.Lock()
        answers = callable(signal.getsignal(signal.SIGTERM)) and threading.current_thread() is threading.main_thread()
        if answers:  # else nobody would answer the signal
            threading.Thread(target=self._look_after, daemon=True).start()

    def rest(self) -> None:
        """Look a last time: from now on Ray may end."""
        with self._one:
            self._look()
            self._over.set()
        node = ray._private.worker._global_node
        for info in (info for kind in node.all_processes.values() for info in kind) if node else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                self._others += psutil.Process(info.process.pid).children(recursive=True)

    def end(self) -> None:
        """End the watch: the block is left."""
        self._left.set()
        self._end_others()

    def _look_after(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with self._one:
                if self._over.is_set():
                    break
                self._look()
                if self.died:
                    self._others = psutil.Process().children(recursive=True)
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
                    break
        if self.died and not self._left.wait(LEAVE_SECONDS):
            self._leave()

    def _look(self) -> None:
        node = ray._private.worker._global_node
        if self.died or node is None:
            return
        for kind, process in node.dead_processes():
            if kind in NEEDED:
                code = process.returncode
                how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
                self.died = f"Ray's {kind} (process {process.pid}) has died ({how})"
        if not node.all_processes:
            self._ask(node.gcs_address)
        elif is_full(place := node.get_temp_dir_path()):  # no worker can start any more
            self.died = f"{place} has no room left for Ray: free space, or let TMPDIR name another directory"

    def _ask(self, head: str) -> None:
        """Ask whether the head of a cluster is there; Ray waits for it a little longer, and then ends the process."""
        now, patience = time.monotonic(), 0.75 * float(os.environ.get(RAYS_PATIENCE, "60"))
        if now - self._asked < ASK_SECONDS:
            return
        self._asked = now
        with contextlib.suppress(OSError):
            host, _, port = head.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
            self._heard = now
        if now - self._heard > patience:
            self.died = f"Ray's head at {head} has not answered for {now - self._heard:.0f} s"

    def _leave(self) -> None:
        """End the process, whose main thread waits for what is dead: nothing of its own runs any more."""
        logs.complain(f"error: {self}")
        self._end_others()
        os._exit(1)

    def _end_others(self) -> None:
        """End the processes that a dead Ray leaves: its agents would look for it for a minute."""
        if not self.died:
            psutil.wait_procs(self._others, timeout=GO_SECONDS)
        for each in self._others:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def __str__(self) -> str:
        return f"{self.died}; the same command goes on where this one stopped"
