"""Submit a job to the Ray cluster of RAY_API_SERVER_ADDRESS, follow its log, and exit with its own exit code.

usage: python -m jobs.submit JOB CONFIG.yaml|RUN [key=value ...]   the next attempt of the run: RUN-a1, RUN-a2, ...
       python -m jobs.submit --retry RUN [key=value ...]           its last good command again, which goes on
       python -m jobs.submit --follow RUN                          its log from the beginning, and its exit code
       python -m jobs.submit --status RUN                          all attempts, and the last line of the log
       python -m jobs.submit --stop RUN                            end it; --retry goes on

RUN: the run.dir, s3://BUCKET/RUN or an absolute path that all nodes have. JOB: any of jobs/, with the words it takes.
"""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hyperface.config import Config, is_override, load, local_path
from hyperface.errors import ConfigError, RunError, StorageError
from hyperface.run import refuse_another
from hyperface.run.command_line import is_config, of_run
from hyperface.storage import open_store
from jobs.start import INTERRUPTED, TERMINATED, Terminated, exit_code

if TYPE_CHECKING:
    from cluster.submit import Client

ROOT = Path(__file__).resolve().parents[1]
JOBS = sorted({file.stem for file in Path(ROOT, "jobs").glob("*.py")} - {"__init__", "start", "submit", "train_toy"})


def main() -> None:
    asked = {"-h", "--help"} & set(sys.argv)
    if asked or len(sys.argv) < 3:
        print(__doc__)
        raise SystemExit(0 if asked else 2)
    what, *words = sys.argv[1:]
    if what in JOBS:
        words = as_it_travels(words)
        return submit(checked(words), what, words)
    if what not in ("--retry", "--follow", "--status", "--stop"):
        raise ConfigError(f"{what}: is not a job; use one of {', '.join(JOBS)}")
    if what != "--retry" and len(words) > 1:
        raise ConfigError(f"{' '.join(words[1:])}: {what} takes a RUN and nothing else")
    return look_after(kept(words[0]), what, words[1:])


def as_it_travels(words: Sequence[str]) -> list[str]:
    """Return the words, with a configuration file named from the folder that travels.

    Raises:
        ConfigError: the file is outside of it.
    """
    source, *rest = words
    if is_override(source) or not is_config(source):
        return [source, *rest]
    file = Path(source).expanduser().resolve()
    if not file.is_relative_to(ROOT):
        raise ConfigError(f"{source}: does not travel with the job; copy it into {ROOT}/jobs/configs")
    return [file.relative_to(ROOT).as_posix(), *rest]


def checked(words: Sequence[str]) -> str:
    """Return the run of a job's words, after a check of its configuration as far as it can be seen from here.

    Words that are no `key=value`, such as `--deep`, are for the job to judge.

    Raises:
        ConfigError: a key or a value is wrong, or the run would be lost with the job.
    """
    source, *rest = words
    overrides = [word for word in rest if is_override(word)]
    file = str(ROOT / source)
    if is_override(source) or is_config(file):
        config = load(None, [source, *overrides]) if is_override(source) else load(file, overrides)
        run = kept(config.run.dir)
        return left_to_the_job(lambda: agreed(run, config), run)
    run = kept(source)
    if "://" not in run and not os.path.isdir(run):
        return run  # a folder of the nodes
    return left_to_the_job(lambda: agreed(run, of_run(run, overrides)), run)


def agreed(run: str, config: Config) -> None:
    """Raise ConfigError where the run was begun with another configuration."""
    store = open_store(run, config.storage)
    store.reach()
    refuse_another(store, config)


def left_to_the_job(check: Callable[[], None], run: str) -> str:
    """Return the run, after a check that cannot be made here where its storage cannot be reached from here."""
    try:
        check()
    except StorageError as error:
        print(f"submit: the configuration is left to the job to check: {error}", file=sys.stderr)
    return run


def kept(directory: str) -> str:
    """Return a run.dir as s3:// or absolute path. Raises ConfigError for one that lies in the folder that Ray
    deletes."""
    if not ("://" in directory or os.path.isabs(directory) or "HYPERFACE_BASE_DIR" in os.environ):
        raise ConfigError(
            f"run.dir must not be a relative path, which would be lost with the job: use s3://BUCKET/RUN, or an "
            f"absolute path that all nodes have; it is {directory!r}"
        )
    return local_path(directory).rstrip("/")


def submit(run: str, job: str, words: Sequence[str]) -> None:
    from cluster import submit as ray_jobs

    client = ray_jobs.connected()
    name = ray_jobs.submit(client, run, job, words, ROOT)
    print(f"submit: {name} is submitted; Ctrl-C leaves it running", file=sys.stderr, flush=True)
    follow(client, run, name)


def follow(client: "Client", run: str, name: str) -> None:
    """Show the log, and exit as the job did."""
    from cluster import submit as ray_jobs

    again = f"python -m jobs.submit --follow {shlex.quote(run)}"
    try:
        job = ray_jobs.follow(client, name, lambda text: print(text, end="", flush=True))
    except (KeyboardInterrupt, Terminated) as end:
        print(f"\nsubmit: {name} goes on; `{again}` shows it again, --stop ends it", file=sys.stderr)
        raise SystemExit(INTERRUPTED if isinstance(end, KeyboardInterrupt) else TERMINATED) from None
    except RunError as error:
        raise RunError(f"{error}; {name} may go on: `{again}` shows it again") from error
    print(f"submit: {ray_jobs.described(job)}", file=sys.stderr)
    raise SystemExit(ray_jobs.exit_code_of(job))


def look_after(run: str, what: str, words: Sequence[str]) -> None:
    from cluster import submit as ray_jobs

    client = ray_jobs.connected()
    attempts = ray_jobs.attempts(client, run)
    if not attempts:
        raise RunError(f"{run}: the cluster knows no attempt of it; begin with `python -m jobs.submit JOB ...`")
    name = attempts[-1].submission_id
    match what:
        case "--retry":
            job, before = ray_jobs.command(ray_jobs.worth_retrying(attempts))
            checked([*before, *words])
            submit(run, job, [*before, *words])
        case "--follow":
            follow(client, run, name)
        case "--stop":
            print(ray_jobs.described(ray_jobs.stop(client, name)))
        case "--status":
            print(*map(ray_jobs.described, attempts), ray_jobs.last_line(client, name), sep="\n")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
