"""Verification of one recogniser on every set that is asked for, and the record of the results.

Shape legend: N images of a set, D embedding dimension, B images of a batch.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperface.config import EvaluateConfig, StorageConfig, flat
from hyperface.errors import ConfigError, RunError
from hyperface.models.arcface import normalised
from hyperface.models.loading import Evaluated
from hyperface.models.protocols import FeatureRecognizer
from hyperface.models.toy.renderer import IMAGE_SIZE as TOY_SIZE
from hyperface.progress.logs import Line
from hyperface.progress.meter import Meter
from hyperface.run import Run
from hyperface.run.names import VERIFICATION
from hyperface.run.provenance import provenance
from hyperface.run.shapes import Verification
from hyperface.verification import ijb, toy_sets, verification
from hyperface.verification.benchmarks import find_benchmark, read_benchmark, set_name
from hyperface.verification.pair_set import PairSet

TOY = "toy"
_OF_A_FILE = ("path", "sha256", "color_order", "pixel_mean", "pixel_std")
ASKED = ("train.name", *(f"evaluate.{key}" for key in ("model", "benchmarks", "ijb", *_OF_A_FILE)))
"""The keys that say which model is verified on what."""
Say = Callable[[str], None]
HEADER = f"{'set':<16}{'pairs':>10}{'accuracy':>20}{'EER':>9}  TAR at FAR"


def _silent(line: str) -> None:
    """Ignore a line: nobody listens."""


class NothingToVerify(ConfigError):
    """No set is named, and the toy world's have images of another size."""


def evaluate_run(run: Run, evaluated: Evaluated, say: Say = print) -> dict[str, Any]:
    """Verify on all of `evaluate.benchmarks` and `evaluate.ijb`; write and return the record of this model.

    Sets that were measured earlier with the same weights and preprocessing, and are not asked for now, stay in it;
    each has the provenance of its own measurement. A line of a table is said for each set as soon as it is measured,
    and recorded with it: what was measured before a later set failed is kept, and so is what was asked for.

    Raises:
        ConfigError: two sets of one name, a file that is not there, or toy sets for images of another size.
        NothingToVerify: as `wanted_sets`.
        RunError: a set that is broken or does not fit the recogniser; names it.
    """
    evaluate, recognizer = run.config.evaluate, evaluated.recognizer
    evaluate = replace(evaluate, benchmarks=wanted_sets(evaluate, recognizer.image_size))
    asked = check_sets(evaluate, run.config.storage, recognizer.image_size)
    name, made_by = f"{VERIFICATION}/{evaluated.label}.json", provenance(run.config)
    own, record = dict[str, Any](), {"model": evaluated.described, "sets": _kept(run, name, evaluated)}
    keys = {key: value for key, value in flat(run.config).items() if key in ASKED}
    record["asked"] = {"sets": asked, "keys": keys}
    run.put_json(name, record)
    for found in _measured(evaluate, run.config.storage, recognizer, say):
        own[found["name"]] = {**found, "provenance": made_by}
        # A set takes minutes: what another job recorded of this model meanwhile is kept.
        record["sets"] = _kept(run, name, evaluated) | own
        run.put_json(name, record)
        if len(own) == 1:
            say(HEADER)
        say(table_line(found["name"], found))
    return record


def verify_on(pairs: PairSet, recognizer: FeatureRecognizer, batch_size: int, say: Say = _silent) -> dict[str, Any]:
    """Return the record of one set; `verification.measured` says what it holds.

    Args:
        say: called now and then with a line of progress.

    Raises:
        RunError: an image is broken, of another size than the recogniser's, or has no embedding; names it.
    """
    began = time.monotonic()
    x_ND = embedded(pairs, recognizer, batch_size, say)
    distance_P = verification.squared_distances(x_ND, pairs.first_P, pairs.second_P)
    seconds = round(time.monotonic() - began, 2)
    described = {"name": pairs.name, "source": pairs.source, "images": len(pairs.images), "seconds": seconds}
    return verification.measured(distance_P, pairs.same_P) | described


def embedded(pairs: PairSet, recognizer: FeatureRecognizer, batch_size: int, say: Say = _silent) -> NDArray[np.float32]:
    """Normalised sums of the features of image and mirror image, [N, D]; one batch of pixels at a time.

    Raises:
        RunError: as `verify_on`.
    """
    size, x_ND = recognizer.image_size, np.empty((len(pairs.images), recognizer.embedding_dim), np.float32)
    start, meter = 0, Meter(f"evaluate: {pairs.name}", len(x_ND), "images", say=say)
    for images_BHWC in pairs.batches(batch_size):
        height, width = images_BHWC.shape[1:3]
        if (height, width) != (size, size):
            rule = f"holds images of {width}x{height} pixels, and the recogniser takes {size}x{size}"
            raise RunError(f"{pairs.source}: {rule}; give a set that was aligned for it: nothing is resized here")
        rows_BD = normalised(verification.flip_sum(recognizer.features, images_BHWC))
        bad = np.flatnonzero(~np.isfinite(rows_BD).all(axis=1))
        if len(bad):
            shown = ", ".join(pairs.called(start + int(row)) for row in bad[:3])
            raise RunError(
                f"{shown}: the recogniser has no embedding of it (NaN or zero); take its pairs out of the set"
            )
        x_ND[start : start + len(rows_BD)] = rows_BD
        start += len(rows_BD)
        meter.reach(start)
    meter.close()
    return x_ND


def wanted_sets(evaluate: EvaluateConfig, image_size: int) -> list[str]:
    """Return `evaluate.benchmarks`; where no set is named at all, the toy world's, for a recogniser of their image
    size.

    Raises:
        NothingToVerify: there is none for this recogniser.
    """
    if evaluate.benchmarks or evaluate.ijb:
        return list(evaluate.benchmarks)
    if image_size == TOY_SIZE:
        return [TOY]
    why = f"the toy sets have {TOY_SIZE}x{TOY_SIZE} pixels, and the recogniser takes {image_size}x{image_size}"
    fix = "name a set, e.g. evaluate.benchmarks=[lfw.bin] or evaluate.ijb=[IJBC]"
    raise NothingToVerify(f"evaluate.benchmarks: is empty, as is evaluate.ijb, and {why}; {fix}")


def check_sets(evaluate: EvaluateConfig, storage: StorageConfig, image_size: int) -> list[str]:
    """Return the names of the sets. Refuses, before one is read, two of one name, files that are not there, and toy
    sets for a recogniser of another image size."""
    wanted = list(evaluate.benchmarks)
    if TOY in wanted and image_size != TOY_SIZE:
        rule = f"the toy sets have {TOY_SIZE}x{TOY_SIZE} pixels, and the recogniser takes {image_size}x{image_size}"
        raise ConfigError(f"evaluate.benchmarks: {rule}; give evaluate.benchmarks=[FILE.bin], or [] with evaluate.ijb")
    sets = [(name, path) for path in wanted for name in (toy_sets.TOY_SETS if path == TOY else [set_name(path)])]
    sets += [(ijb.name_of(path, storage), path) for path in evaluate.ijb]
    named: dict[str, str] = {}
    for name, path in sets:
        if name in named:
            rule = f"{named[name]} and {path} would both be recorded as {name!r}"
            raise ConfigError(f"evaluate.benchmarks: {rule}; rename one, or evaluate them one after the other")
        named[name] = path
    for path in wanted:
        if path != TOY:
            find_benchmark(path, storage)
    return list(named)


def table_line(name: str, found: dict[str, Any]) -> str:
    """Return a row under HEADER: the numbers that could be measured, and why the rest could not."""
    accuracy = "-" if found["accuracy"] is None else f"{found['accuracy']:.4f} +- {found['accuracy_std']:.4f}"
    rate = "-" if found["eer"] is None else f"{found['eer']:.4f}"
    shown = [f"{far} {at['tar']:.4f}" for far, at in reversed(found["tar_at_far"].items()) if at["tar"] is not None]
    reasons = list(dict.fromkeys(found["reasons"].values()))
    return f"{name:<16}{found['pairs']:>10}{accuracy:>20}{rate:>9}  {'  '.join(shown + reasons)}"


def _measured(
    evaluate: EvaluateConfig, storage: StorageConfig, recognizer: FeatureRecognizer, say: Say
) -> Iterator[dict[str, Any]]:
    for path in evaluate.benchmarks:
        if path == TOY:
            say(Line("evaluate", f"{TOY}, each of the {len(toy_sets.TOY_SETS)} sets is drawn, then embedded"))
        for pairs in toy_sets.toy_sets() if path == TOY else [read_benchmark(path, storage)]:
            yield verify_on(pairs, recognizer, evaluate.batch_size, say)
    for path in evaluate.ijb:
        yield ijb.verify_on(path, storage, recognizer, evaluate.batch_size)


def _kept(run: Run, name: str, evaluated: Evaluated) -> dict[str, Any]:
    """Return the sets of an earlier record of the same model. Raises RunError where that is damaged."""
    if not run.store.exists(name):
        return {}
    before = run.shaped(name, Verification)
    same = all(before["model"].get(key) == evaluated.described[key] for key in ("fingerprint", "preprocessing"))
    return dict(before["sets"]) if same else {}
