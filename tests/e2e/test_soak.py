"""A run that everything happens to: twenty rounds of a random fault on one run, which must end as the undisturbed one.

`make soak` runs it, in about six minutes; SOAK_SEED=N repeats the order of an earlier one. Images that are made again
are counted in the round in which they are: for a driver that ended, in the round after.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import soak_job
from color_world import color_run, hashes, make_dataset
from fault_proxy import FaultProxy, fault_proxy, puts
from object_store import ObjectStore

from hyperface.dataset.plan import Plan
from hyperface.run import Run

ROOT = Path(__file__).parents[2]
ROUNDS = 20
IN_FLIGHT = 2 * 2 * 12
"""Images: two actors, each with a shard in the generator and one in upload."""
PATIENCE_SECONDS = 120.0
OUTAGE_SECONDS = 6.0
TITLES = f"{'round':>5}  {'fault':30}{'shards':>8}{'lost':>6}{'duplicated':>12}{'re-made':>9}{'seconds':>9}"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(15 * 60)]


@dataclass
class Soak:
    """One run on a bucket behind a proxy, and the process that works on it."""

    gateway: ObjectStore
    proxy: FaultProxy
    url: str
    control: Path
    job: psutil.Popen | None = None
    nodes: int = 0
    seen: int = 0
    """Lines of `drawn` that were counted."""
    drawn: Counter[int] = field(default_factory=Counter)
    """Number of times that each seed was drawn."""

    def faults(self) -> dict[str, Callable[[], None]]:
        return {
            "actor killed": self.kill_actor,
            "actor killed before a marker": lambda: self.kill_at("before"),
            "actor killed after a marker": lambda: self.kill_at("after"),
            "driver killed": self.kill_driver,
            "driver told to end": self.end_driver,
            "node lost": self.lose_node,
            "server away": self.stop_server,
            "errors 500": lambda: self.misbehave(
                lambda: self.proxy.answer(500, "InternalError", when=puts("shard-"), times=6)
            ),
            "slow answers": lambda: self.misbehave(lambda: self.proxy.delay(4.0, when=puts("shard-"), times=4)),
            "lost answers": lambda: self.misbehave(lambda: self.proxy.cut(when=puts("shard-"), times=4)),
        }

    def start(self) -> None:
        if self.job is None or self.job.poll() is not None:
            command = [sys.executable, soak_job.__file__, self.control, self.url]
            log = (self.control / "log").open("a")
            self.job = psutil.Popen(
                [*command, f"storage.endpoint_url={self.proxy.url}"], stdout=log, stderr=subprocess.STDOUT, cwd=ROOT
            )
            self.nodes = 2

    def wait(self, until: Callable[[], bool], *, alive: bool = True) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not until():
            assert not alive or self.job.poll() is None, f"the job ended with {self.job.poll()}: {self.last_words()}"
            assert time.monotonic() < deadline, f"nothing happens: {self.last_words()}"
            time.sleep(0.1)

    def wait_for_shards(self, count: int) -> None:
        wanted = self.done() + count
        self.wait(lambda: self.done() >= wanted)

    def done(self) -> int:
        return self.proxy.count("PUT", "/_done/", 200)

    def last_words(self) -> str:
        return (self.control / "log").read_text()[-3000:]

    def kill_actor(self) -> None:
        """Kill an actor in the middle of whatever it does."""
        time.sleep(random.random())
        pid = int((self.control / "drawn").read_text().splitlines()[-1].split()[0])
        os.kill(pid, signal.SIGKILL)
        self.wait(lambda: not psutil.pid_exists(pid))
        self.wait_for_shards(2)

    def kill_at(self, moment: str) -> None:
        flag = self.control / moment
        flag.touch()
        self.wait(lambda: not flag.exists())
        self.wait_for_shards(2)

    def kill_driver(self) -> None:
        """Kill the driver, whose children may live a little longer and write: two writers at once."""
        below = self.job.children(recursive=True)
        self.job.kill()
        self.job.wait(30)
        self.start()
        self.wait_for_shards(1)
        for process in below:
            if process.is_running():
                process.kill()

    def end_driver(self) -> None:
        self.job.terminate()
        assert self.job.wait(60) == 143, self.last_words()

    def lose_node(self) -> None:
        if self.nodes < 2:
            self.end_driver()
            self.start()
            self.wait_for_shards(1)
        os.kill(int((self.control / "raylet").read_text()), signal.SIGKILL)
        self.nodes = 1
        self.wait_for_shards(4)

    def stop_server(self) -> None:
        self.gateway.stop_gateway()
        time.sleep(OUTAGE_SECONDS)
        self.gateway.start_gateway()
        self.wait_for_shards(2)

    def misbehave(self, begin: Callable[[], None]) -> None:
        begin()
        self.wait(lambda: all(fault.times == 0 for fault in self.proxy._faults))
        self.proxy.heal()
        self.wait_for_shards(2)

    def drawn_again(self, seeds: set[int]) -> int:
        """Images that were drawn since the last look and had been drawn before; `seeds`: of their first attempts."""
        lines = (self.control / "drawn").read_text().splitlines()
        new = [int(seed) for line in lines[self.seen :] for seed in line.split()[1:] if int(seed) in seeds]
        self.seen, again = len(lines), 0
        for seed in new:
            again += self.drawn[seed] > 0
            self.drawn[seed] += 1
        return again

    def written_twice(self) -> int:
        """Names of shards and markers that were written more than once."""
        with self.proxy._lock:
            names = [path for method, path, status in self.proxy.journal if (method, status) == ("PUT", 200)]
        return sum(n > 1 for name, n in Counter(names).items() if "/shard-" in name and "/_pending/" not in name)


@pytest.fixture
def soak(object_gateway: ObjectStore, object_bucket: str) -> Iterator[Soak]:
    with (
        tempfile.TemporaryDirectory(prefix="soak-", dir="/tmp", ignore_cleanup_errors=True) as control,
        fault_proxy(object_gateway.endpoint) as proxy,
    ):
        made = Soak(object_gateway, proxy, f"s3://{object_bucket}/run", Path(control))
        yield made
        if made.job and made.job.poll() is None:
            for process in [*made.job.children(recursive=True), made.job]:
                process.kill()


def first_seeds(run: Run) -> set[int]:
    """The seed of the first draw of every image."""
    from hyperface.dataset.plan import image_seed

    plan = Plan.of(run.config)
    pairs = (pair for shard in range(plan.num_shards) for pair in zip(*plan.shard(shard), strict=True))
    return {image_seed(plan.seed, int(identity), int(image), 0) for identity, image in pairs}


def shards_there(run: Run) -> set[str]:
    return {name for name in run.store.list("dataset") if "/shard-" in name and "/_pending/" not in name}


def test_twenty_rounds_of_faults_end_with_the_undisturbed_dataset(soak: Soak, tmp_path: Path):
    undisturbed = color_run(tmp_path / "undisturbed", *soak_job.WORLD)
    make_dataset(undisturbed)
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(10**6))
    random.seed(seed)
    faults = soak.faults()
    order = random.sample(sorted(faults), len(faults)) + random.choices(sorted(faults), k=ROUNDS - len(faults))
    run = color_run(soak.url, *soak_job.WORLD, f"storage.endpoint_url={soak.gateway.endpoint}")
    seeds, began = first_seeds(run), time.monotonic()
    print(f"\nSOAK_SEED={seed}\n{TITLES}")
    for number, fault in enumerate(order, start=1):
        before, since = shards_there(run), time.monotonic()
        soak.start()
        soak.wait_for_shards(2)
        faults[fault]()
        lost, twice, again = len(before - shards_there(run)), soak.written_twice(), soak.drawn_again(seeds)
        seconds = time.monotonic() - since
        print(f"{number:5}  {fault:30}{soak.done():8}{lost:6}{twice:12}{again:9}{seconds:9.0f}", flush=True)
        assert (lost, twice) == (0, 0)
        assert again <= IN_FLIGHT
    if soak.job.poll() is None:
        soak.end_driver()
    before = shards_there(run)
    soak.start()
    assert soak.job.wait(300) == 0, soak.last_words()
    lost, twice, again = len(before - shards_there(run)), soak.written_twice(), soak.drawn_again(seeds)
    print(f"  end  {'none, to the last shard':30}{soak.done():8}{lost:6}{twice:12}{again:9}")
    assert (lost, twice, again <= IN_FLIGHT) == (0, 0, True)
    verify = [sys.executable, "-m", "jobs.verify", soak.url, "--deep", f"storage.endpoint_url={soak.gateway.endpoint}"]
    checked = subprocess.run(verify, cwd=ROOT, capture_output=True, text=True, check=False)
    print(f"{checked.stdout}{time.monotonic() - began:.0f} s in all")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert hashes(run) == hashes(undisturbed)
