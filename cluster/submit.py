"""Jobs of a cluster: submit one, follow its log over lost connections, stop it. Only home of JobSubmissionClient.

An attempt is one submission of a job for a run. Its id, RUN-a2, is known before it is sent, so that an answer which got
lost does not start a second one.
"""

import logging
import os
import re
import shlex
import socket
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import requests
from ray._private.authentication.http_token_authentication import format_authentication_http_error
from ray._private.runtime_env.packaging import _dir_travel
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from requests.adapters import HTTPAdapter

from hyperface.errors import ConfigError, RunError
from hyperface.reading.one_line import one_line
from hyperface.run.provenance import git_sha

ADDRESS = "RAY_API_SERVER_ADDRESS"
TAKEN = "already exists"
TOO_LARGE = "status code 413"
"""Answer to a folder above 100 MiB, or above less than that where a proxy is before Ray."""
SHOWN = 5
"""Number of files that a message names."""
START_PATIENCE_S = 60.0
"""Seconds of patience with a cluster that may be starting."""
PATIENCE_S = 600.0
"""Seconds of patience with a connection that was lost."""
ANSWER_S = 60.0
"""Longest silence within an answer, and time of an answer that only drips, in seconds."""
LARGEST_ANSWER = 2**30
"""Most bytes of an answer, which may be the whole log of a job."""
SLOWEST_BYTES_S = 50_000
"""Slowest answer in bytes per second: a slower one is not believed to go on."""
STOP_S = 30
"""Seconds from SIGTERM to SIGKILL; Ray's own 3 s may be less than an upload takes."""

CHATTY = (
    "ray._private.runtime_env.packaging",
    "ray._private.runtime_env.working_dir",
    "ray.dashboard.modules.dashboard_sdk",
)
"""Loggers of Ray that log each file that does not travel."""

Answer = TypeVar("Answer")


class Client(JobSubmissionClient):  # type: ignore[misc] # Ray's class is untyped
    """A client whose requests are bounded: Ray's own waits without end where a connection falls silent or drips, and
    reads whatever comes."""

    def _do_request(
        self, method: str, endpoint: str, *, data: bytes | None = None, json_data: Any = None, **given: Any
    ) -> Any:
        """Send a request as Ray does, but through connections that can be cut."""
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Adapter())
            answer = session.request(
                method,
                self._address + endpoint,
                cookies=self._cookies,
                data=data,
                json=json_data,
                headers=self._headers,
                verify=self._verify,
                timeout=ANSWER_S,
                hooks={"response": _read_within_bounds},
                **given,
            )
        if refused := format_authentication_http_error(answer.status_code, answer.text):
            raise AuthenticationError(refused)
        return answer


class _Adapter(HTTPAdapter):
    """One connection, which is cut where an answer does not begin: http.client reads headers that drip for ever."""

    _connection: Any = None

    def get_connection_with_tls_context(self, *what: Any, **given: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*what, **given)
        kind: Any = pool.ConnectionCls

        def connection(**options: Any) -> Any:
            self._connection = kind(**options)
            return self._connection

        pool.ConnectionCls = connection
        return pool

    def send(self, request: Any, *what: Any, **given: Any) -> Any:
        """Send a request and read the headers of its answer. Raises TimeoutError: they do not end."""
        at_most = ANSWER_S + len(request.body or b"") / SLOWEST_BYTES_S
        began, ended, failed = time.monotonic(), threading.Event(), None
        threading.Thread(target=self._cut_unless, args=(ended, at_most), daemon=True).start()
        try:
            answer = super().send(request, *what, **given)
        except (OSError, ValueError) as error:
            failed = error
        finally:
            ended.set()
        if (took := time.monotonic() - began) > at_most:  # though http.client may take a cut for the headers' end
            raise TimeoutError(f"no whole head of an answer came in {took:.0f} s") from failed
        if failed:
            raise failed
        return answer

    def _cut_unless(self, ended: threading.Event, at_most: float) -> None:
        ended.wait(at_most)
        while not ended.wait(0.1):
            with suppress(OSError, AttributeError):  # gone, or not there yet
                self._connection.sock.shutdown(socket.SHUT_RDWR)


def _read_within_bounds(answer: Any, **_: Any) -> None:
    """Read the body of an answer of `requests`.

    Raises:
        TimeoutError: it drips.
        RunError: it has no end.
    """
    began, size, parts = time.monotonic(), 0, []
    while part := answer.raw.read1(2**16, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            answer.close()
            raise RunError(f"an answer of over {LARGEST_ANSWER} bytes")
        if (took := time.monotonic() - began) > ANSWER_S + size / SLOWEST_BYTES_S:
            answer.close()
            raise TimeoutError(f"only {size} bytes of the answer came in {took:.0f} s")
    answer._content, answer._content_consumed = b"".join(parts), True


def connected() -> Client:
    """Return the job server of RAY_API_SERVER_ADDRESS, as soon as it answers.

    Raises:
        ConfigError: no address is given, or the cluster refuses the token.
        RunError: nothing answers there for START_PATIENCE_S.
    """
    address = os.environ.get(ADDRESS, "")
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"{ADDRESS}: must be where the cluster's dashboard is, http://HEAD:8265; it is {address!r}")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        return patiently(lambda: Client(address), START_PATIENCE_S)
    except RunError as error:
        raise RunError(f"{ADDRESS}={address}: {error}; is a Ray dashboard there?{_by_proxy(address)}") from error


def run_name(run: str) -> str:
    """Return what a run is called in ids: the last part of its URI, in letters, digits, - and _."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", run.rstrip("/").rpartition("/")[2])[-60:].strip("-") or "run"


def next_attempt(run: str, ids: Iterable[str | None]) -> int:
    """Return one more than the highest number that an id of this name has; runs of one name share the count, from 1."""
    numbered = re.compile(re.escape(run_name(run)) + r"-a(\d+)")
    return 1 + max((int(found[1]) for each in ids if (found := numbered.fullmatch(each or ""))), default=0)


def attempts(client: Client, run: str) -> list[JobDetails]:
    """Return the attempts of a run that the cluster remembers, oldest first."""
    return _of(run, patiently(client.list_jobs))


def _of(run: str, jobs: Iterable[JobDetails]) -> list[JobDetails]:
    mine = [job for job in jobs if job.submission_id and (job.metadata or {}).get("run") == run]
    return sorted(mine, key=lambda job: int(job.metadata["attempt"]))


def submit(client: Client, run: str, job: str, words: Sequence[str], folder: Path) -> str:
    """Submit `python -m jobs.JOB WORDS`, in a copy of a folder, as the next attempt of a run; return its id.

    Raises:
        RunError: another attempt of this run has not ended, or the cluster cannot take the job.
    """
    jobs = patiently(client.list_jobs)
    for other in _of(run, jobs):
        if not other.status.is_terminal():
            raise RunError(_is_under_way(run, other.submission_id))
    attempt = next_attempt(run, (other.submission_id for other in jobs))
    name, sha = f"{run_name(run)}-a{attempt}", git_sha()
    entrypoint = shlex.join(["python", "-m", f"jobs.{job}", *words])
    # The job runs in a copy of this folder without .git: the commit, and where relative paths begin, go beside it.
    carried = {"HYPERFACE_GIT_SHA": sha, "HYPERFACE_BASE_DIR": os.environ.get("HYPERFACE_BASE_DIR", "")}
    environment = {key: value for key, value in carried.items() if value} | {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)}

    def send() -> None:
        client.submit_job(
            entrypoint=entrypoint,
            submission_id=name,
            runtime_env={"working_dir": str(folder), "env_vars": environment},
            metadata={"run": run, "job": job, "attempt": str(attempt), "git_sha": sha},
        )

    try:
        patiently(send, START_PATIENCE_S)
    except RunError as refusal:
        if TOO_LARGE in str(refusal):
            raise RunError(_what_travels(folder)) from refusal
        # Either the answer to an earlier request of ours was lost, or somebody was faster.
        if TAKEN not in str(refusal):
            raise
        taken = patiently(lambda: client.get_job_info(name))
        if (taken.metadata or {}).get("run") != run:
            return submit(client, run, job, words, folder)
        if taken.entrypoint != entrypoint:
            raise RunError(_is_under_way(run, name)) from refusal
    return name


def worth_retrying(attempts: Sequence[JobDetails]) -> JobDetails:
    """Return the last attempt whose words were no bad input (exit code 2), where there is one."""
    good = [job for job in attempts if not job.status.is_terminal() or exit_code_of(job) != 2]
    return (good or attempts)[-1]


def command(attempt: JobDetails) -> tuple[str, list[str]]:
    """Return the job that an attempt was, and its words."""
    _, _, module, *words = shlex.split(attempt.entrypoint)
    return module.removeprefix("jobs."), words


def follow(
    client: Client,
    name: str,
    show: Callable[[str], None],
    *,
    patience_s: float = PATIENCE_S,
    pause: Callable[[float], None] = time.sleep,
) -> JobDetails:
    """Show a job's log, each character once, until the job has ended; return what it ended as.

    Ray answers with the whole log, so a longer one is asked for less often.

    Raises:
        RunError: nothing has answered for so long.
    """
    seen = 0
    while True:
        # Asked in this order, the log of a job that has ended is whole.
        job = patiently(lambda: client.get_job_info(name), patience_s, pause)
        log = patiently(lambda: client.get_job_logs(name), patience_s, pause)
        show(log[seen:])
        seen = len(log)
        if job.status.is_terminal():
            return job
        pause(max(1.0, len(log) / 500_000))


def stop(client: Client, name: str) -> JobDetails:
    """Send SIGTERM, after STOP_S SIGKILL, and wait until the job has ended; return what it ended as."""
    patiently(lambda: client.stop_job(name))
    return follow(client, name, lambda text: None)


def last_line(client: Client, name: str) -> str:
    """Return the line that the job said last; empty before it has said anything."""
    return "".join(patiently(lambda: client.get_job_logs(name)).strip().splitlines()[-1:])


def exit_code_of(job: JobDetails) -> int:
    """Return the driver's own exit code, 128 + N where signal N ended it; 143 where the job was stopped."""
    if job.status == JobStatus.STOPPED:
        return 143
    if job.driver_exit_code is None:
        return 0 if job.status == JobStatus.SUCCEEDED else 1
    return int(job.driver_exit_code) if job.driver_exit_code >= 0 else 128 - int(job.driver_exit_code)


def described(job: JobDetails) -> str:
    """Describe a job in one line: id, job, how it is, when it began, how long it took, and the commit of its code."""
    code = f" (exit code {exit_code_of(job)})" if job.status.is_terminal() else ""
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.start_time / 1000))
    seconds = (job.end_time or time.time() * 1000) / 1000 - job.start_time / 1000
    commit = job.metadata["git_sha"] or "unknown"
    return f"{job.submission_id}  {job.metadata['job']}  {job.status}{code}  {began}, {seconds:.0f} s  commit {commit}"


def patiently(
    ask: Callable[[], Answer], patience_s: float = PATIENCE_S, pause: Callable[[float], None] = time.sleep
) -> Answer:
    """Return the cluster's answer, asked for again while connections fail or a server between here and there has an
    error.

    Raises:
        ConfigError: the cluster refuses the token.
        RunError: nothing has answered for so long, or the cluster refuses what is asked.
    """
    began, failed = time.monotonic(), False
    while True:
        try:
            answer = ask()
        except AuthenticationError as error:
            rule = "is missing or not the cluster's; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as they are there"
            raise ConfigError(f"RAY_AUTH_TOKEN: {rule}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"the answer is no job server's ({_said(error)}); is a Ray dashboard there?") from error
        except (OSError, RuntimeError) as error:
            why = _said(error)
            if isinstance(error, RuntimeError) and not _may_pass(str(error)):
                raise RunError(f"the cluster says: {why}") from error
            if time.monotonic() - began >= patience_s:
                raise RunError(f"nothing has answered for {patience_s:.0f} s ({why})") from error
            if not failed:
                print(f"submit: no answer, asking again for {patience_s:.0f} s ({why})", file=sys.stderr, flush=True)
            failed = True
            pause(2)
        else:
            if failed:
                print("submit: there is an answer again", file=sys.stderr, flush=True)
            return answer


def _may_pass(refusal: str) -> bool:
    """Return whether it is a server's error, which may go; that an id is taken comes as one, and stays."""
    return refusal.startswith("Request failed with status code 5") and TAKEN not in refusal


def _said(error: Exception) -> str:
    """Return the last line with words in it: Ray answers with a traceback and full stops."""
    lines = [line for line in str(error).splitlines() if re.search(r"\w", line)]
    return one_line((lines or [type(error).__name__])[-1])


def _what_travels(folder: Path) -> str:
    sizes: dict[str, int] = {}

    def see(path: Path) -> None:
        if path.is_file():
            sizes[path.relative_to(folder).as_posix()] = path.stat().st_size

    _dir_travel(folder, [], see, include_gitignore=True)
    largest = sorted(sizes, key=lambda name: -sizes[name])[:SHOWN]
    named = ", ".join(f"{name} ({sizes[name] / 2**20:.1f} MiB)" for name in largest)
    whole = f"{folder}: {sum(sizes.values()) / 2**20:.0f} MiB are more than travel with a job (100 MiB)"
    return f"{whole}; the largest files are {named}; name those that the job does not need in {folder}/.rayignore"


def _by_proxy(address: str) -> str:
    """Name the variables that lead requests to an address elsewhere; empty where none does."""
    url = urllib.parse.urlsplit(address)
    names = [
        name for each in (f"{url.scheme}_proxy", "all_proxy") for name in (each, each.upper()) if name in os.environ
    ]
    if not names or urllib.request.proxy_bypass(url.netloc):
        return ""
    return f"; {' and '.join(names)} leads to a proxy: add {url.hostname} to NO_PROXY where none is needed"


def _is_under_way(run: str, name: str) -> str:
    again = f"python -m jobs.submit --follow {shlex.quote(run)}"
    return f"{run}: {name} has not ended; follow it with `{again}`, or end it with --stop"
