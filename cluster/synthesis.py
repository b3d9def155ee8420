"""Stage synthesize on Ray Data: one row is one shard, and the worker that renders a shard commits it.

Only statistics come back to the driver, so nothing is lost with it: what is done is what has a marker on storage.
"""

import json
import time
import traceback
from collections.abc import Callable
from collections.abc import Generator as Results
from contextlib import closing
from typing import Any

from numpy.typing import NDArray
from ray.exceptions import RayError

from cluster.actor_pool import fan_out
from hyperface.config import Config, ConfigError
from hyperface.dataset import fingerprint, index
from hyperface.dataset.commit import ShardError
from hyperface.dataset.layout import marker_file
from hyperface.dataset.plan import Plan
from hyperface.dataset.survey import Survey, planned, planned_formats, survey
from hyperface.dataset.verify import hash_problems
from hyperface.embeddings import EmbeddingError
from hyperface.models.loading import load_models
from hyperface.models.protocols import ModelError, Models
from hyperface.run import DATASET, INDEX, Run, RunError
from hyperface.storage import StorageError
from hyperface.synthesis.render import RenderError
from hyperface.synthesis.shards import References, ShardMaker, read_references, shard_maker

PROGRESS_SECONDS = 2.0
SHOWN = 20
"""Failed or damaged shards that a message names."""

OWN_ERRORS = (ConfigError, EmbeddingError, ModelError, RenderError, RunError, ShardError, StorageError)

MakeModels = Callable[[Config], Models]


class _Renderer:
    """An actor: one generator and one recogniser, one shard at a time."""

    def __init__(self, run: Run, make_models: MakeModels) -> None:
        import torch

        torch.set_num_threads(1)
        self.run, self.make_models = run, make_models
        self.maker: ShardMaker | None = None

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, Any]:
        (shard,) = batch["piece"]
        return {"result": [json.dumps(self._result(int(shard)))]}

    def _result(self, shard: int) -> dict[str, Any]:
        """The shard's statistics; or `failed`, and the other shards go on; or `stop`, when all would fail alike."""
        try:
            self.maker = self.maker or self._start()
        except Exception as error:  # whatever keeps a model from loading keeps it from loading for every shard
            return {"stop": _one_line(error), "refused": isinstance(error, ConfigError)}
        try:
            return self.maker.make(shard)
        except StorageError as error:
            return {"stop": str(error), "refused": False}
        except Exception as error:  # one shard's failure is the job's at its end, not the other shards'
            if not isinstance(error, OWN_ERRORS):
                traceback.print_exc()
            return {"shard": shard, "failed": _one_line(error)}

    def _start(self) -> ShardMaker:
        return shard_maker(self.run, read_references(self.run), self.make_models(self.run.config))


def _one_line(error: Exception) -> str:
    """The product's own errors speak for themselves; others with their type."""
    return str(error) if isinstance(error, OWN_ERRORS) else f"{type(error).__name__}: {error}"


def synthesize_stage(run: Run, make_models: MakeModels = load_models) -> None:
    """Make the shards that have no marker, then the index and the data card; nothing to do when all is there.

    Raises:
        RunError: no references yet; damaged shards without synthesis.repair; shards that failed for good, listed.
        ConfigError: the dataset was begun with another configuration, other references or models; names them.
        EmbeddingError: the references cannot be used.
        StorageError: the storage cannot be read or written.
    """
    began, plan, kinds = time.monotonic(), planned(run.config), planned_formats(run.config)
    references = read_references(run)
    found = survey(run.store, plan, kinds, _agreed(run, references))
    todo = _todo(run, found)
    drawn = 0
    if todo:
        run.store.delete(INDEX)
        drawn = _render(run, plan, todo, make_models)
        found = survey(run.store, plan, kinds, _agreed(run, references))
        _refuse(run, [*found.damaged.values(), *(f"{marker_file(shard)} is missing" for shard in found.missing)])
    made, seconds = index.write(run, plan, kinds, found.markers), time.monotonic() - began
    if not todo and INDEX in found.listing:
        print(f"synthesize: done, {made['images']} images, {run.store.uri(DATASET)}")
        return
    totals = {key: made[key] for key in ("images", "planned_images", "draws", "redraws", "errors", "mean_cosine")}
    rejects = len(made["rejects"])
    finished = {"event": "finished", **totals, "rejects": rejects, "drawn_now": drawn, "seconds": round(seconds, 2)}
    run.record("synthesis", [finished])
    print(f"synthesize: {made['images']} images, {rejects} rejects, {seconds:.0f} s -> {run.store.uri(DATASET)}")


def _agreed(run: Run, references: References) -> str | None:
    """The digest of the dataset's fingerprint, None before its first shard; refuses what is known to differ."""
    before = fingerprint.recorded(run.store)
    if before is None:
        return None
    fingerprint.refuse_others(run.store, before, {**before, **fingerprint.chosen(run.config, references.sha256)})
    return fingerprint.digest(before)


def _todo(run: Run, found: Survey) -> list[int]:
    """The shards to make: those without a marker and, with synthesis.repair, the damaged ones.

    Damage that a listing shows is always found; synthesis.repair also reads every file and compares its hash.
    """
    damaged = dict(found.damaged)
    if not run.config.synthesis.repair:
        _refuse(run, list(damaged.values()))
        return found.missing
    for shard, marker in found.markers.items():
        for file in marker.files:
            for problem in hash_problems(run.store, file, run.store.read(file.name)):
                damaged[shard] = problem
    for shard in sorted(damaged):
        print(f"synthesize: makes shard {shard} again: {damaged[shard]}")
    return sorted({*found.missing, *damaged})


def _refuse(run: Run, problems: list[str]) -> None:
    if problems:
        advice = "make the damaged shards again with synthesis.repair=true"
        raise RunError(_listed(f"{run}: the dataset is damaged ({advice}):", problems))


def _render(run: Run, plan: Plan, todo: list[int], make_models: MakeModels) -> int:
    """Make the shards on the cluster; the number of images in them.

    Raises:
        RunError: some failed, named here after the others are done; or nothing can go on, with the reason.
        ConfigError: the dataset was begun with other models.
    """
    began, said, images, rejects = time.monotonic(), time.monotonic(), 0, 0
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    before = plan.num_shards - len(todo)
    print(f"synthesize: {plan.num_images} images in {plan.num_shards} shards, {before} of them done", flush=True)
    try:
        # Closed also when it is left early: the workers stop before Ray does.
        with closing(_results(run, todo, make_models)) as results:
            for result in results:
                if "stop" in result:
                    raise (ConfigError if result["refused"] else RunError)(result["stop"])
                (failed if "failed" in result else rows).append(result)
                images, rejects = images + result.get("rows", 0), rejects + result.get("rejects", 0)
                if time.monotonic() - said > PROGRESS_SECONDS:
                    said = time.monotonic()
                    print(_progress(before, plan, len(rows), len(failed), images, rejects, said - began), flush=True)
    except RayError as error:
        what = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        raise RunError(
            f"{run}: a worker was lost more than synthesis.max_failures={run.config.synthesis.max_failures} times "
            f"({what}); {before + len(rows)} of {plan.num_shards} shards are done, the same command goes on from there"
        ) from error
    finally:
        events = [{"event": "shard", **row} for row in rows] + [{"event": "failed", **row} for row in failed]
        run.record("synthesis", events)
    if failed:
        lines = [f"shard {row['shard']}: {row['failed']}" for row in failed]
        advice = "the others are done; the same command goes on"
        raise RunError(_listed(f"{run}: {len(failed)} of {len(todo)} shards failed, {advice}", lines))
    return images


def _results(run: Run, todo: list[int], make_models: MakeModels) -> Results[dict[str, Any], None, None]:
    """What the workers say of each shard, in the order in which they finish."""
    synthesis = run.config.synthesis
    rows = fan_out(
        todo,
        _Renderer,
        (run, make_models),
        cluster=run.config.cluster,
        actors=synthesis.num_actors,
        gpus=synthesis.gpus_per_actor,
        failures=synthesis.max_failures,
    )
    # Without prefetching: its thread outlives a loop that is left early, and ends the process when Ray shuts down.
    for batch in rows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        yield from map(json.loads, batch["result"])


def _progress(before: int, plan: Plan, made: int, failed: int, images: int, rejects: int, seconds: float) -> str:
    left = plan.num_shards - before - made - failed
    eta = seconds / max(1, made + failed) * left
    trouble = f", {failed} failed" if failed else ""
    return (
        f"synthesize: {before + made}/{plan.num_shards} shards, {images / seconds:.0f} images/s, "
        f"{rejects} rejects{trouble}, {eta:.0f} s left"
    )


def _listed(headline: str, lines: list[str]) -> str:
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n  ".join([headline, *lines[:SHOWN], *more])
