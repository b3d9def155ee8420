"""Jobs are submitted once, followed over lost connections, left by Ctrl-C, stopped, and taken up again."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import pytest
from color_world import color_run, make_dataset
from fault_proxy import fault_proxy
from hostile_s3 import DRIP, ENDLESS, FLOOD, HTML, http
from ray.job_submission import JobDetails, JobStatus, JobType
from stopped_job import connected as answering
from stopped_job import head
from waiting import wait_for

from cluster import submit as submitting
from cluster.submit import (
    Client,
    attempts,
    command,
    exit_code_of,
    follow,
    next_attempt,
    patiently,
    run_name,
    submit,
    worth_retrying,
)
from hyperface.errors import ConfigError, RunError
from jobs.submit import JOBS, as_it_travels, checked

ROOT = Path(__file__).parents[2]
TOY = "jobs/configs/toy.yaml"

WAITS = "import time\nfrom jobs.start import exit_code\nraise SystemExit(exit_code(lambda: time.sleep(600)))\n"
"""A job that waits until it is told to end."""


def details(status: str, code: int | None = None, **more: object) -> JobDetails:
    return JobDetails(type=JobType.SUBMISSION, status=status, entrypoint="true", driver_exit_code=code, **more)


def test_an_attempts_id_is_the_last_part_of_the_run_and_a_number():
    assert run_name("s3://bucket/faces/run.7 b/") == "run-7-b"
    assert run_name("s3://bucket") == "bucket"
    assert run_name("/") == "run"
    assert next_attempt("s3://bucket/run", []) == 1


def test_the_next_attempt_is_one_more_than_the_highest_of_that_name_whosever_it_is():
    ids = ["run-a2", "run-a10", None, "run-a11b", "other-run-a99", "raysubmit_x"]
    assert next_attempt("s3://bucket/run", ids) == 11
    assert next_attempt("s3://another/run", ids) == 11


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (details("SUCCEEDED", 0), 0),
        (details("FAILED", 2), 2),
        (details("FAILED", -9), 137),
        (details("FAILED"), 1),
        (details("STOPPED"), 143),
    ],
)
def test_the_exit_code_is_the_drivers_own(job: JobDetails, code: int):
    assert exit_code_of(job) == code


class _Refusing:
    """A cluster that takes no job."""

    def list_jobs(self) -> list[JobDetails]:
        return []

    def submit_job(self, **_: object) -> None:
        raise RuntimeError("Request failed with status code 413: Maximum request body size 104857600 exceeded..")


def test_a_folder_that_is_too_large_to_travel_names_its_largest_files_and_the_file_that_leaves_them(tmp_path: Path):
    for name, size in {
        "small.py": 10,
        "deep/weights.bin": 3 * 2**20,
        "images.tar": 2**20,
        "ignored": 9 * 2**20,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / ".rayignore").write_text("ignored\n")
    with pytest.raises(RunError) as refused:
        submit(_Refusing(), "/run", "embed", [TOY], tmp_path)
    said = str(refused.value)
    assert "4 MiB are more than travel" in said
    assert "the largest files are deep/weights.bin (3.0 MiB), images.tar (1.0 MiB), " in said
    assert said.endswith(f"{tmp_path}/.rayignore")
    assert "ignored (" not in said


def test_a_proxy_that_may_be_in_between_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # nothing listens there
    monkeypatch.setenv(submitting.ADDRESS, "http://head.invalid:8265")
    monkeypatch.setattr(submitting, "START_PATIENCE_S", 0)
    with pytest.raises(RunError, match=r"; http_proxy leads to a proxy: add head.invalid to NO_PROXY"):
        submitting.connected()
    monkeypatch.setenv("NO_PROXY", "head.invalid")
    with pytest.raises(RunError, match=r"is a Ray dashboard there\?$"):
        submitting.connected()


@dataclass
class Failing:
    """A cluster whose job writes a line for each question; those of `lost` get an error in place of an answer."""

    lost: dict[int, Exception] = field(default_factory=dict)
    asked: int = 0

    def answer(self) -> None:
        self.asked += 1
        if self.asked in self.lost:
            raise self.lost[self.asked]

    def get_job_info(self, name: str) -> JobDetails:
        self.answer()
        return details("SUCCEEDED" if self.asked > 8 else "RUNNING", 0)

    def get_job_logs(self, name: str) -> str:
        self.answer()
        return "".join(f"line {number}\n" for number in range(self.asked))


def no_time(seconds: float) -> None:
    pass


def test_each_line_is_shown_once_though_connections_break_and_the_server_has_errors(capsys: pytest.CaptureFixture[str]):
    broken: dict[int, Exception] = {
        2: ConnectionResetError("reset"),
        5: RuntimeError("Request failed with status code 502: Bad Gateway."),
        6: TimeoutError("timed out"),
    }
    cluster, shown = Failing(broken), list[str]()
    job = follow(cluster, "run-a1", shown.append, pause=no_time)
    assert job.status == JobStatus.SUCCEEDED
    assert "".join(shown) == "".join(f"line {number}\n" for number in range(cluster.asked))
    assert capsys.readouterr().err.count("there is an answer again") == 2


def test_patience_ends_and_a_refusal_is_not_asked_again():
    away = Failing({number: ConnectionResetError("reset") for number in range(1, 9)})
    with pytest.raises(RunError, match=r"nothing has answered for 0 s \(reset\)"):
        follow(away, "run-a1", print, patience_s=0, pause=no_time)
    traceback = "Request failed with status code 500: Traceback ...\nValueError: Job run-a1 already exists.\n.\n."
    taken = Failing({1: RuntimeError(traceback)})
    with pytest.raises(RunError, match="the cluster says: ValueError: Job run-a1 already exists"):
        patiently(lambda: taken.get_job_info("run-a1"))
    gone = Failing({1: RuntimeError("Request failed with status code 404: Job run-a1 does not exist.")})
    with pytest.raises(RunError, match=r"the cluster says: .*run-a1 does not exist"):
        patiently(lambda: gone.get_job_info("run-a1"))
    assert gone.asked == 1


@pytest.mark.parametrize(
    ("answer", "more", "said"),
    [
        (http("200 OK", HTML), b"", "the answer is no job server's .*is a Ray dashboard there"),
        (http("200 OK", b"[1, 2]"), b"", "the answer is no job server's"),
        (http("200 OK", b"{}"), b"", "the answer is no job server's"),
        (b"HTTP/1.1 200 OK\r\n" + ENDLESS, DRIP, "only [0-9]+ bytes of the answer came in"),
        (b"HTTP/1.1 400 Bad Request\r\n" + ENDLESS, DRIP, "only [0-9]+ bytes of the answer came in"),
        (b"HTTP/1.1 200 OK\r\n" + ENDLESS, FLOOD, "an answer of over 1000000 bytes"),
        (b"HTT", b"P", "no whole head of an answer came in 0 s"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x", "no whole head of an answer came in 0 s"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "no whole head of an answer came in 0 s"),
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 99 + b"\r\n", "nothing has answered for 0 s"),
    ],
)
def test_what_is_no_job_server_or_never_ends_is_one_line(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, more: bytes, said: str
):
    for name, value in {"ANSWER_S": 0.3, "START_PATIENCE_S": 0.0, "LARGEST_ANSWER": 10**6}.items():
        monkeypatch.setattr(submitting, name, value)
    with fault_proxy("http://127.0.0.1:1") as server:
        server.say(answer, when=lambda request: True, then=more, every_s=0.05 if len(more) < 9 else 0.0)
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", server.url)
        with pytest.raises(RunError, match=said) as error:
            submitting.connected()
    assert "\n" not in str(error.value)


def test_what_is_wrong_is_said_before_anything_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HYPERFACE_BASE_DIR", raising=False)
    with pytest.raises(ConfigError, match="bta"):
        checked([TOY, "run.dir=s3://bucket/run", "synthesis.bta=1"])
    with pytest.raises(ConfigError, match=r"must not be a relative path.*'runs/demo'"):
        checked([TOY, "run.dir=runs/demo"])
    with pytest.raises(ConfigError, match="must not be a relative path"):
        checked(["runs/demo"])
    with pytest.raises(ConfigError, match="holds no run"):
        checked([str(tmp_path)])
    assert checked([TOY, "run.dir=s3://bucket/run/", "--deep"]) == "s3://bucket/run"
    assert checked(["/nodes/only/run", "train.recipe=toy"]) == "/nodes/only/run"
    monkeypatch.setenv("HYPERFACE_BASE_DIR", "/somewhere")
    assert checked([TOY, "run.dir=runs/demo"]) == "/somewhere/runs/demo"


def test_a_run_that_was_begun_with_another_configuration_is_refused_before_anything_is_submitted(tmp_path: Path):
    make_dataset(color_run(tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"another configuration(.|\n)*synthesis\.min_cosine: 0\.9 -> 0\.5"):
        checked([str(tmp_path / "run"), "synthesis.min_cosine=0.5"])
    with pytest.raises(ConfigError, match=r"another configuration(.|\n)*packing\.num_identities: 6 -> 200"):
        checked([TOY, f"run.dir={tmp_path}/run"])
    assert checked([str(tmp_path / "run"), "synthesis.num_actors=3"]) == str(tmp_path / "run")


def test_the_attempt_to_retry_is_the_last_whose_words_were_right():
    good, stopped, bad = details("FAILED", 1), details("STOPPED"), details("FAILED", 2)
    assert worth_retrying([good, stopped, bad, bad]) is stopped
    assert worth_retrying([bad, good]) is good
    assert worth_retrying([bad]) is bad


def test_a_configuration_is_named_from_the_folder_that_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT / "jobs")
    assert as_it_travels(["configs/toy.yaml", "run.seed=1"]) == [TOY, "run.seed=1"]
    assert as_it_travels(["s3://bucket/run", "--deep"]) == ["s3://bucket/run", "--deep"]
    with pytest.raises(ConfigError, match=r"mine.yaml: does not travel with the job; copy it"):
        as_it_travels([str(tmp_path / "mine.yaml")])


def test_every_job_can_be_submitted_but_those_that_are_none():
    assert {"pipeline", "embed", "pack", "synthesize", "train", "audit", "report", "verify"} <= set(JOBS)
    assert not {"start", "submit", "train_toy"} & set(JOBS)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The dashboard of a Ray of this file's own."""
    with head() as found:
        answering(found)
        yield found


@pytest.fixture
def client(address: str) -> Client:
    return Client(address)


def submitted_together(address: str, folder: Path, *each: tuple[str, str]) -> list[str]:
    """The ids, or what was said instead, of (run, word) that are submitted by people who saw none of the others."""
    seen = threading.Barrier(len(each))

    class Together(Client):
        met = False

        def list_jobs(self) -> list[JobDetails]:
            found: list[JobDetails] = super().list_jobs()
            if not self.met:
                self.met = True
                seen.wait()
            return found

    def one(run: str, word: str) -> str:
        try:
            return submit(Together(address), run, "status", [run, word], folder)
        except RunError as refusal:
            return str(refusal)

    with ThreadPoolExecutor(len(each)) as pool:
        return list(pool.map(one, *zip(*each, strict=True)))


def started(address: str, *words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "jobs.submit", *map(str, words)]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "HYPERFACE_BASE_DIR")
    }
    environment |= {"RAY_API_SERVER_ADDRESS": address}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def ended(address: str, *words: object) -> tuple[int, str, str]:
    job = started(address, *words)
    output, errors = job.communicate()
    return job.returncode, output, errors


def test_a_job_is_submitted_followed_retried_interrupted_and_stopped(address: str, client: Client, tmp_path: Path):
    run = tmp_path / "run"
    code, log, said = ended(address, "verify", run)
    assert code == 2, said
    assert "holds no run" in log
    assert "submit: run-a1  verify  FAILED (exit code 2)" in said

    make_dataset(color_run(run))
    with fault_proxy(address) as proxy:
        proxy.cut(when=lambda request: (request.method, request.path) == ("POST", "/api/jobs/"))
        code, log, said = ended(proxy.url, "--retry", run, "--deep")
    assert code == 0, said
    assert "every byte is as recorded" in log
    first, second = attempts(client, str(run))
    assert command(second) == ("verify", [str(run), "--deep"])
    assert second.metadata == first.metadata | {"attempt": "2"}
    assert second.runtime_env["env_vars"]["HYPERFACE_GIT_SHA"] == first.metadata["git_sha"] != ""

    folder = tmp_path / "code"
    (folder / "jobs").mkdir(parents=True)
    (folder / "jobs/__init__.py").write_text(f"__path__.append({str(ROOT / 'jobs')!r})\n")
    (folder / "jobs/waits.py").write_text(WAITS)
    assert submit(client, str(run), "waits", [], folder) == "run-a3"
    with pytest.raises(RunError, match="run-a3 has not ended; follow it with"):
        submit(client, str(run), "verify", [str(run)], ROOT)
    left_and_stopped(address, run)


def left_and_stopped(address: str, run: Path) -> None:
    """The third attempt, which waits."""
    with fault_proxy(address) as proxy:
        follower = started(proxy.url, "--follow", run)
        assert follower.stdout is not None
        assert follower.stderr is not None
        heard = until(follower.stdout, "Running entrypoint")
        with proxy.outage():
            until(follower.stderr, "no answer, asking again")
        until(follower.stderr, "there is an answer again")
        asked = proxy.count("GET", "/logs", 200)
        wait_for(lambda: proxy.count("GET", "/logs", 200) > asked)
        follower.send_signal(signal.SIGINT)
        rest, said = follower.communicate()
    assert follower.returncode == 130
    assert (heard + rest).count("Running entrypoint") == 1
    assert f"run-a3 goes on; `python -m jobs.submit --follow {run}` shows it again" in said

    code, lines, said = ended(address, "--status", run)
    assert code == 0, said
    assert [" ".join(line.split()[:3]) for line in lines.splitlines()[:3]] == [
        "run-a1 verify FAILED",
        "run-a2 verify SUCCEEDED",
        "run-a3 waits RUNNING",
    ]
    code, lines, said = ended(address, "--stop", run)
    assert code == 0, said
    assert lines.startswith("run-a3  waits  STOPPED")
    code, log, _ = ended(address, "--follow", run)
    assert code == 143
    assert log.endswith("terminated: the same command goes on where this one stopped\n")


def until(lines: TextIO, words: str) -> str:
    """Read what is said up to the line with these words."""
    said = ""
    while words not in said:
        line = lines.readline()
        assert line, said
        said += line
    return said


def test_two_people_at_the_same_moment_start_no_job_twice_and_take_no_id_from_each_other(
    address: str, client: Client, tmp_path: Path
):
    here, there = f"{tmp_path}/here/both", f"{tmp_path}/there/both"
    assert sorted(submitted_together(address, tmp_path, (here, "--json"), (there, "--json"))) == ["both-a1", "both-a2"]
    for run in (here, there):
        (job,) = attempts(client, run)
        assert job.entrypoint == f"python -m jobs.status {run} --json"
    same = f"{tmp_path}/same"
    assert submitted_together(address, tmp_path, (same, "--json"), (same, "--json")) == ["same-a1", "same-a1"]
    assert len(attempts(client, same)) == 1
    other = f"{tmp_path}/other"
    first, second = sorted(submitted_together(address, tmp_path, (other, "--json"), (other, "")))[::-1]
    assert first == "other-a1"
    assert second.startswith(f"{other}: other-a1 has not ended; follow it with")
    assert len(attempts(client, other)) == 1


def test_a_token_that_is_not_the_clusters_is_named(address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    code, _, said = ended(address, "--status", "s3://bucket/run")
    assert code == 2
    assert said.startswith("error: RAY_AUTH_TOKEN: is missing or not the cluster's")
