"""The actor of stage synthesize: its models, and one shard in the generator while another is uploaded.

Every step is reported to the ledger (`ledger.py`), so that a shard that kills its actor is found.
"""

import json
import logging
import os
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import ray
from ray.exceptions import RayError

from cluster.actor_pool import PoolActor
from cluster.ledger import Standing
from cluster.turn import Lane, Stopped, Turn
from hyperface.config import Config
from hyperface.dataset.marker import Quarantine
from hyperface.dataset.plan import quarantine_file
from hyperface.errors import RunError, StorageError, UserError
from hyperface.models.protocols import Models
from hyperface.progress.logs import as_asked, note
from hyperface.run import Run
from hyperface.synthesis.shards import ShardMaker, read_references, shard_maker

CALLS = 2
"""Number of shards in an actor at a time: one in the generator, one in upload."""
UPLOAD_SECONDS = 300.0
"""Seconds that an actor that is about to end itself waits for the upload of the shard before."""

MakeModels = Callable[[Config], Models]


class Renderer(PoolActor):
    """The actor that renders shards; two threads call its work."""

    def __init__(self, run: Run, make_models: MakeModels, ledger: Any) -> None:
        as_asked(run.config.cluster.log_format)
        self.run, self.make_models, self.ledger = run, make_models, ledger
        self.name = str(ray.get_runtime_context().get_actor_id())
        self.stop = self._tell("started")  # before anything that may end the process: its deaths are counted
        super().__init__()
        self.lane, self.loading = Lane(self._tell), threading.Lock()
        self.maker: ShardMaker | None = None

    def work(self, piece: int) -> Mapping[str, Sequence[Any]]:
        try:
            return {"result": [self._result(piece)]}
        except RayError as error:
            raise RunError(f"the job's ledger is gone ({type(error).__name__}); the same command goes on") from error

    def _result(self, shard: int) -> str:
        """Return as JSON the shard's statistics, or `failed` or `quarantined`, and the others go on. Raises what none
        can go on with."""
        if self.stop:
            raise Stopped(self.stop)
        admission = self._tell("admit", shard)
        if admission.row:
            return str(admission.row)
        if admission.given_up:
            return json.dumps(self._quarantined(shard, admission.standing))
        attempt = admission.standing.attempts + 1
        self._note("begun", shard, attempt)
        try:
            with self.loading:
                self.maker = self.maker or self._start()
        except UserError:
            raise
        except Exception as error:  # whatever keeps a model from loading keeps it from loading for every shard ...
            if self._tell("ends", _one_line(error)):
                os._exit(1)  # ... unless it has loaded before: the device is lost, or held by the process before
            raise RunError(_one_line(error)) from error
        return self._made(self.maker, shard, attempt, Turn(self.lane, shard, alone=admission.standing.alone))

    def _made(self, maker: ShardMaker, shard: int, attempt: int, turn: Turn) -> str:
        row = ""
        try:
            made = maker.make(shard, turn)
            row = json.dumps(made)
            self._note("done", shard, attempt, rows=made["rows"], rejects=made["rejects"])
            return row
        except (StorageError, Stopped):
            raise
        except UserError as error:  # one shard's failure is the job's at its end, not the other shards'
            self._note("failed", shard, attempt, logging.ERROR, error=_one_line(error))
            return json.dumps({"shard": shard, "failed": _one_line(error)})
        except Exception as error:  # printed, reported to the ledger, which counts it, and tried in a fresh process
            traceback.print_exc()
            self._note("failed, and begun again", shard, attempt, logging.WARNING, error=_one_line(error))
            self._tell("failed", shard, _one_line(error))
            turn.close(UPLOAD_SECONDS)
            os._exit(1)
        finally:
            turn.leave(row)

    def _quarantined(self, shard: int, standing: Standing) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        left = Quarantine(shard, standing.attempts, standing.error, now)
        self.run.store.put(quarantine_file(shard), left.to_bytes())
        self._note("quarantined", shard, standing.attempts, logging.ERROR, error=standing.error)
        return {"shard": shard, "quarantined": str(left)}

    def _note(self, event: str, shard: int, attempt: int, level: int = logging.INFO, **more: Any) -> None:
        about = {"run": self.run.store.url, "stage": "synthesize", "shard": shard, "attempt": attempt, **more}
        note(event, level, **about)

    def _start(self) -> ShardMaker:
        return shard_maker(self.run, read_references(self.run), self.make_models(self.run.config))

    def _tell(self, what: str, *arguments: Any) -> Any:
        return ray.get(getattr(self.ledger, what).remote(self.name, *arguments))


def _one_line(error: Exception) -> str:
    """Write an error in one line: the product's own errors speak for themselves; others with their type."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
