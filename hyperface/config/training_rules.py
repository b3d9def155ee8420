"""The rules that all trainings share: how a batch is divided among streams and workers, how the rate begins."""

import re
from collections.abc import Iterator

from hyperface.config.knobs import Rule
from hyperface.config.later import TrainConfig
from hyperface.config.vec2face import TrainGeneratorConfig


def training_rules(section: str, t: TrainConfig | TrainGeneratorConfig) -> Iterator[Rule]:
    """Of a section that has the keys of both."""
    named = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", t.name))
    yield f"{section}.name", named, "must be letters, digits, . _ or -"
    for key in ("epochs", "batch_size", "streams", "checkpoint_every", "loader_threads"):
        yield f"{section}.{key}", getattr(t, key) >= 1, "must be at least 1"
    rule = f"must be a multiple of {section}.streams={t.streams}, each of which gives an equal part"
    yield f"{section}.batch_size", t.streams < 1 or t.batch_size % t.streams == 0, rule
    rule = f"must be between 1 and {section}.streams={t.streams}: a stream belongs to one worker"
    yield f"{section}.num_workers", 1 <= t.num_workers <= t.streams, rule
    rule = f"must be between 0 (all) and {section}.num_workers"
    yield f"{section}.min_workers", 0 <= t.min_workers <= t.num_workers, rule
    shared = t.num_workers > 1 and 0 < t.gpus_per_worker < 1
    yield f"{section}.gpus_per_worker", not shared, "must be 0 or at least 1 with several workers (NCCL)"
    yield f"{section}.learning_rate", t.learning_rate > 0, "must be above 0"
    yield f"{section}.weight_decay", t.weight_decay >= 0, "must be at least 0"
    yield f"{section}.warmup_epochs", 0 <= t.warmup_epochs <= t.epochs, f"must be between 0 and {section}.epochs"
    yield f"{section}.clip_norm", t.clip_norm >= 0, "must be at least 0 (not cut)"
    yield f"{section}.dropout", 0 <= t.dropout < 1, "must be at least 0 and below 1"
    yield f"{section}.flip", 0 <= t.flip <= 1, "must be a probability between 0 and 1"
    yield f"{section}.seed", 0 <= t.seed < 2**63, "must be at least 0 and below 2^63"
