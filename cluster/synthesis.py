"""Stage synthesize on Ray Data: one row is one shard, and the worker that renders a shard commits it.

Only statistics come back to the driver, so nothing is lost with it: what is done is what has a marker on storage.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayError

from cluster.actor_pool import Columns, fan_out
from cluster.anchors import draw_anchors
from cluster.ledger import open_ledger
from cluster.progress import Metrics, Numbers, Tally, reported
from cluster.renderer import CALLS, MakeModels, Renderer
from cluster.session import connect
from hyperface.dataset import fingerprint, index
from hyperface.dataset.commit import sweep
from hyperface.dataset.dataset import Dataset, Glance
from hyperface.dataset.marker import RETRY
from hyperface.dataset.plan import Plan, marker_file, quarantine_file
from hyperface.dataset.verify import hash_problems
from hyperface.errors import RunError
from hyperface.models.loading import load_models
from hyperface.progress.logs import Line, say
from hyperface.progress.meter import harmless
from hyperface.reading.one_line import one_line
from hyperface.run import Run
from hyperface.run.names import DATASET, DONE, INDEX
from hyperface.synthesis.shards import References, read_references
from hyperface.synthesis.steering import check_targets

GRACE_SECONDS = 1.0
"""Seconds that a job that has to end waits for the uploads in flight: `ray job stop` kills after 3 s."""
MOST_RESTARTS = 300
"""Number of times that one actor is restarted: the ledger stops a job before, unless processes die before they can
report it."""
SHOWN = 20
"""Number of failed or damaged shards that a message names."""


def synthesize_stage(run: Run, make_models: MakeModels = load_models) -> None:
    """Make the shards that have no marker, then the index and the data card; nothing to do when all is there.

    Raises:
        RunError: no references yet; damaged shards without synthesis.repair; shards that failed for good or are
            quarantined, listed.
        ConfigError: the dataset was begun with another configuration, other references or models; names them. Or images
            cannot be steered to what control.targets wants.
        EmbeddingError: the references cannot be used.
        StorageError: the storage cannot be read or written.
    """
    run.refuse_replaced()
    check_targets(run.config)
    began, dataset = time.monotonic(), Dataset.of(run)
    references = read_references(run)
    seen = dataset.glance()
    _refuse_others(dataset, references)
    left = {} if run.config.synthesis.retry_quarantined else seen.quarantined
    todo = [shard for shard in _missing_or_damaged(dataset, seen) if shard not in left]
    drawn = 0
    if todo:
        run.store.delete(INDEX)
        draw_anchors(run, make_models)
        drawn = _render(run, dataset.plan, todo, left, make_models)
        _refuse_others(dataset, references)
    elif left:
        raise RunError(_unfinished(run, {}, left))
    found = dataset.survey()
    _refuse(dataset, [*found.damaged.values(), *(f"{marker_file(shard)} is missing" for shard in found.missing)])
    for shard in found.settled:
        run.store.delete(quarantine_file(shard))
    sweep(run.store, found.listing)
    if not any(marker.rows for marker in found.markers.values()):
        advice = f"the reasons are in {run.store.uri(DONE)}; loosen synthesis.min_* and choose another run.dir"
        raise RunError(f"{run}: not one image passed the gate; {advice}")
    made, seconds = index.write(dataset, found.markers), time.monotonic() - began
    if not todo and INDEX in found.listing:
        say(Line("synthesize", f"done, {made['images']} images, {run.store.uri(DATASET)}"))
        return
    reported = ("images", "planned_images", "draws", "redraws", "refused", "mean_cosine", "control")
    totals = {key: made[key] for key in reported if key in made}
    rejects, repeats = len(made["rejects"]), len(made["duplicates"])
    finished = {"event": "finished", **totals, "rejects": rejects, "drawn_now": drawn, "seconds": round(seconds, 2)}
    run.record("synthesis", [finished])
    also = f", {repeats} near-duplicates listed" if repeats else ""
    for name, found in made.get("control", {}).items():
        also += f", {name} met by {found['met']} of {sum(found.values())}"
    text = f"{made['images']} images, {rejects} rejects{also}, {seconds:.0f} s -> {run.store.uri(DATASET)}"
    say(Line("synthesize", text, **totals))


def _refuse_others(dataset: Dataset, references: References) -> None:
    """Refuse what is known to differ from what the dataset was begun with; nothing before its first shard."""
    before = dataset.begun_with()
    if before is not None:
        fingerprint.refuse_others(dataset.store, before, fingerprint.chosen(dataset.config, references.sha256))


def _missing_or_damaged(dataset: Dataset, seen: Glance) -> list[int]:
    """Return the shards to make: those without a marker and, with synthesis.repair, the damaged ones.

    Damage that names show is refused here. What only a marker shows is found when all are read, before the index:
    ten thousand of them take a minute, and a job that goes on is to go on at once. synthesis.repair reads them first,
    and every file too, and compares its hash.
    """
    store, repair = dataset.store, dataset.config.synthesis.repair
    if not repair and not seen.damaged:
        return seen.missing
    found = dataset.survey()
    damaged = dict(found.damaged)
    if not repair:
        _refuse(dataset, list(damaged.values()))
    for shard, marker in found.markers.items():
        for file in marker.files:
            for problem in hash_problems(store, file, store.read(file.name)):
                damaged[shard] = problem
    for shard in sorted(damaged):
        say(Line("synthesize", f"makes shard {shard} again: {damaged[shard]}", shard=shard))
    return sorted({*found.missing, *damaged})


def _refuse(dataset: Dataset, problems: list[str]) -> None:
    if problems:
        advice = "make the damaged shards again with synthesis.repair=true"
        raise RunError(_listed(f"{dataset.store}: the dataset is damaged ({advice}):", problems))


def _render(run: Run, plan: Plan, todo: list[int], left: dict[int, str], make_models: MakeModels) -> int:
    """Make the shards on the cluster; return the number of images in them.

    Args:
        left: {shard: why} of the quarantined shards, which are left alone.

    Raises:
        RunError: some failed or are quarantined, named here after the others are done; or nothing can go on.
        ConfigError: the dataset was begun with other models.
    """
    before, results = plan.num_shards - len(todo) - len(left), list[dict[str, Any]]()
    tally = Tally(plan.num_shards, before, sum(plan.rows(shard) for shard in todo))
    alone = f", {len(left)} quarantined and left alone" if left else ""
    say(Line("synthesize", f"{plan.num_images} images in {plan.num_shards} shards, {before} of them done{alone}"))
    connect(run.config.cluster)
    ledger = open_ledger(run.config.synthesis.max_shard_attempts, run.config.synthesis.max_failures)
    began = time.monotonic()

    def numbers() -> Numbers:
        with contextlib.suppress(RayError):
            tally.deaths = ray.get(ledger.counts.remote())["deaths"]
        return tally.numbers(time.monotonic() - began)

    metrics = harmless(lambda: Metrics(run), "metrics")
    try:
        with reported(numbers, metrics), _pool(run, todo, make_models, ledger) as said:
            try:
                for result in (json.loads(text) for batch in said for text in batch["result"]):
                    results.append(result)
                    tally.add(result, plan.rows(result["shard"]), time.monotonic() - began)
            except (KeyboardInterrupt, SystemExit):
                _let_uploads_end(ledger)
                raise
    except RayError as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        done = f"{before + tally.done} of {plan.num_shards} shards are done"
        raise RunError(f"{run}: Ray gave up ({what}); {done}, the same command goes on from there") from error
    finally:
        run.record("synthesis", [{"event": _event(result), **result} for result in results])
    failed = {result["shard"]: result["failed"] for result in results if "failed" in result}
    left = left | {result["shard"]: result["quarantined"] for result in results if "quarantined" in result}
    if failed or left:
        raise RunError(_unfinished(run, failed, left))
    return tally.images


def _pool(
    run: Run, todo: list[int], make_models: MakeModels, ledger: Any
) -> contextlib.AbstractContextManager[Iterator[Columns]]:
    """Return the workers, and what they say of each shard.

    Restarts have no bound of their own: the ledger ends shards that kill their actors, and the job when all die.
    """
    synthesis = run.config.synthesis
    return fan_out(
        todo,
        Renderer,
        (run, make_models, ledger),
        stage="synthesize",
        cluster=run.config.cluster,
        actors=synthesis.num_actors,
        gpus=synthesis.gpus_per_actor,
        failures=MOST_RESTARTS,
        calls=CALLS,
    )


def _let_uploads_end(ledger: Any) -> None:
    """Begin no further shard, and give those in upload a moment; what is being generated is abandoned."""
    deadline = time.monotonic() + GRACE_SECONDS
    with contextlib.suppress(RayError):
        ray.get(ledger.stop.remote("the job was told to end"), timeout=GRACE_SECONDS)
        while time.monotonic() < deadline and ray.get(ledger.counts.remote(), timeout=GRACE_SECONDS)["uploading"]:
            time.sleep(0.05)


def _event(result: dict[str, Any]) -> str:
    return next((event for event in ("failed", "quarantined") if event in result), "shard")


def _unfinished(run: Run, failed: dict[int, str], quarantined: dict[int, str]) -> str:
    """Write the message of a job that ends without its dataset."""
    lines = [f"shard {shard}: {error}" for shard, error in sorted(failed.items())]
    lines += [quarantined[shard] for shard in sorted(quarantined)]
    what = [f"{len(failed)} shards failed; the same command tries them again"] * bool(failed)
    what += [f"{len(quarantined)} are quarantined; take them up again with {RETRY}"] * bool(quarantined)
    return _listed(f"{run}: all other shards are done, {' and '.join(what)}", lines)


def _listed(headline: str, lines: list[str]) -> str:
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n  ".join([headline, *lines[:SHOWN], *more])
