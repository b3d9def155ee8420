"""Verification in a job: in this process, or in one Ray task that reserves the GPUs."""

import time
from typing import Any

from cluster.one_task import in_a_task
from hyperface.config import Config
from hyperface.models.loading import load_evaluated
from hyperface.progress.logs import Line, say
from hyperface.run import Run
from hyperface.run.names import VERIFICATION
from hyperface.storage import open_store
from hyperface.verification.stage import HEADER, evaluate_run, table_line


def evaluate_stage(run: Run) -> None:
    """Verify the model that `evaluate.model` names and write its record.

    Raises:
        ConfigError, ModelError, RunError: as `load_evaluated` and `evaluate_run`.
    """
    began, gpus = time.monotonic(), run.config.evaluate.gpus
    if gpus:
        label, record = in_a_task(_on_gpus, run.config, stage="evaluate", cluster=run.config.cluster, gpus=gpus)
        print("\n".join([HEADER, *(table_line(name, found) for name, found in record["sets"].items())]))
    else:
        evaluated = load_evaluated(run.config, run.store)
        label, record = evaluated.label, evaluate_run(run, evaluated)
    seconds = round(time.monotonic() - began, 2)
    run.record("evaluate", [{"event": "finished", "model": label, "sets": sorted(record["sets"]), "seconds": seconds}])
    say(Line("evaluate", f"{label}, {seconds:.0f} s -> {run.store.uri(f'{VERIFICATION}/{label}.json')}"))


def _on_gpus(config: Config) -> tuple[str, dict[str, Any]]:
    run = Run(open_store(config.run.dir, config.storage), config)
    evaluated = load_evaluated(config, run.store)
    return evaluated.label, evaluate_run(run, evaluated, say=lambda line: None)
