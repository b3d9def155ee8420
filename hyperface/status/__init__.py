"""The status of a run by its directory: what is done, what fails, and the command that goes on.

One listing and a few small files: shards are counted by the names of their markers, none of which is read.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from hyperface.config import StorageConfig
from hyperface.reading.one_line import shown
from hyperface.run import Run, names
from hyperface.status.next_command import next_command
from hyperface.status.seen import Seen
from hyperface.status.shards import failing, rejects, shards_of
from hyperface.status.stages import Stage, stages_of

__all__ = ["COMPLETE", "FAILING", "UNFINISHED", "Status", "lines", "status", "to_json"]

COMPLETE, FAILING, UNFINISHED = 0, 1, 3
"""Exit codes of `jobs.status`; 2 is bad input, as for every job."""


@dataclass(frozen=True)
class Status:
    run: str
    stages: tuple[Stage, ...]
    """Stages in the order of the pipeline, then what was begun besides."""
    quarantined: dict[int, str]
    """Reason why a shard is left alone, by shard."""
    failing: tuple[str, ...]
    """Lines about what else somebody has to look at."""
    rejects: int
    """Images that no attempt brought through the gate, as far as recorded."""
    pending: int
    """Notes of shards whose files are being written, or whose worker died over it."""
    driver: dict[str, Any]
    """Driver of the run, where its storage needs a lease; else empty, since nobody has to say so."""
    last: dict[str, dict[str, Any]]
    """The last row of each record, by stage; for programs only, since the stages say the same in words."""
    next: str
    """The command to give; empty where nothing is left to do."""

    @property
    def exit_code(self) -> int:
        if self.failing or self.quarantined:
            return FAILING
        return COMPLETE if all(stage.state == "done" for stage in self.stages) else UNFINISHED


def status(run: Run, reached: StorageConfig | None = None) -> Status:
    """Look at a run.

    Args:
        reached: settings by which its storage is reached, for the next command; None: the defaults.

    Raises:
        StorageError: the storage cannot be listed or read.
    """
    seen = Seen(run, run.store.list())
    shards = shards_of(seen)
    stages = stages_of(seen, shards)
    rows = seen.rows("synthesis")
    return Status(
        run=str(run),
        stages=tuple(stages),
        quarantined=shards.quarantined,
        failing=(*failing(seen, shards, rows), *dict.fromkeys(seen.troubles)),
        rejects=rejects(seen, shards, rows),
        pending=shards.pending,
        driver=seen.json(names.LEASE, dict[str, Any]) or {},
        last={stage: {**rows[-1]} for stage in seen.recorded() if (rows := seen.rows(stage))},
        next=next_command(seen, stages, shards, reached or StorageConfig()),
    )


def lines(found: Status) -> Iterator[str]:
    """Yield the status as lines for people."""
    yield _row("run", found.run)
    for stage in found.stages:
        yield _row(stage.name, f"{stage.state}{', ' if stage.told else ''}{stage.told}")
    if found.rejects:
        yield _row("rejects", f"{found.rejects} images that no attempt brought through the gate")
    if found.pending:
        yield _row("pending", f"{found.pending} shards were being written")
    if found.driver:
        who = f"process {found.driver.get('pid')} of {found.driver.get('host')}"
        yield _row("driver", f"{who}, seen {found.driver.get('seen')}")
    yield from (_row("quarantined", found.quarantined[shard]) for shard in sorted(found.quarantined))
    yield from (_row("failing", problem) for problem in found.failing)
    yield _row("next", found.next or "nothing is left to do")
    if found.run.startswith("s3://") and found.next:
        yield _row("on a cluster", found.next.replace("-m jobs.", "-m jobs.submit ", 1))


def _row(name: str, told: str) -> str:
    return shown(f"{name:<25} {told}")  # the longest usual name is `train_generator vec2face`


def to_json(found: Status) -> str:
    """Return the status for programs: every field of `Status`, and the exit code."""
    return json.dumps({**asdict(found), "exit_code": found.exit_code}, indent=1)
