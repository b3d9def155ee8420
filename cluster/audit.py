"""The audit on Ray: shards and real pictures fan out to actors that embed them; one process then compares all."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cluster.actor_pool import PoolActor, fan_out
from cluster.metrics import watching
from cluster.one_task import in_a_task
from hyperface.audit import record as audit
from hyperface.audit.auditor import Auditor, Piece, auditor_of
from hyperface.audit.machine import Machine
from hyperface.audit.real_faces import Faces
from hyperface.audit.record import Record
from hyperface.audit.summary import lines
from hyperface.dataset.source import Source, open_source
from hyperface.progress.logs import Line, say
from hyperface.progress.meter import Meter
from hyperface.run import Run
from hyperface.run.names import AUDIT

MakeAuditor = Callable[[Source], Auditor]


class _Embedder(PoolActor):
    """An actor: every network, one piece at a time."""

    def __init__(self, pieces: list[Piece], source: Source, make_auditor: MakeAuditor, told: tuple[Faces, ...]) -> None:
        super().__init__()
        self.pieces, self.source, self.make_auditor, self.told = pieces, source, make_auditor, told
        self.auditor: Auditor | None = None

    def work(self, piece: int) -> Mapping[str, Sequence[Any]]:
        self.auditor = self.auditor or replace(self.make_auditor(self.source), told=self.told)
        return {"pictures": [self.auditor.embed(self.pieces[piece])]}


def audit_stage(run: Run, make_auditor: MakeAuditor = auditor_of) -> None:
    """Write `evaluation/audit.json` and the faces that go with it; nothing to do when equal inputs were audited.

    Raises:
        RunError: the dataset is not finished or damaged; pictures of another size than a network takes.
        ConfigError: audit.against names what cannot be compared.
        EmbeddingError: a table of real faces cannot be used.
        ModelError: a network cannot be loaded.
    """
    began, auditor = time.monotonic(), make_auditor(open_source(run))
    found = audit.recorded(run, auditor.asked)
    if found is not None:
        _say_all(found)
        say(Line("audit", f"done, {run.store.uri(AUDIT)}"))
        return
    pictures = _embed(auditor, make_auditor)
    record = _measure(auditor, make_auditor)
    seconds = time.monotonic() - began
    run.record("audit", [{"event": "finished", "embedded_now": pictures, "seconds": round(seconds, 2)}])
    _say_all(record)
    say(Line("audit", f"{pictures} pictures embedded now, {seconds:.0f} s -> {run.store.uri(AUDIT)}"))


def _embed(auditor: Auditor, make_auditor: MakeAuditor) -> int:
    """Embed what is left on the cluster; return the number of pictures."""
    config, pieces = auditor.source.run.config, auditor.pieces()
    if not pieces:
        return 0
    say(Line("audit", f"{len(pieces)} pieces to embed by {' and '.join(auditor.networks)}"))
    with (
        fan_out(
            range(len(pieces)),
            _Embedder,
            (pieces, auditor.source, make_auditor, tuple(faces.without_rows() for faces in auditor.faces)),
            stage="audit",
            cluster=config.cluster,
            actors=config.audit.num_actors,
            gpus=config.audit.gpus_per_actor,
            failures=config.audit.max_failures,
        ) as rows,
        Meter("audit", len(pieces), "pieces", watch=watching(auditor.source.run, "audit")) as meter,
    ):
        pictures = 0
        for done, batch in enumerate(rows, start=1):
            pictures += int(batch["pictures"].sum())
            meter.reach(done, {"pictures": pictures}, f"{pictures:,} pictures")
    return pictures


def _measure(auditor: Auditor, make_auditor: MakeAuditor) -> Record:
    """Measure in this process; with evaluate.gpus in a task that reserves them."""
    config = auditor.source.run.config
    if not config.evaluate.gpus:
        return auditor.measure(Machine(say=_say))
    return in_a_task(
        _on_a_gpu, auditor.source, make_auditor, stage="audit", cluster=config.cluster, gpus=config.evaluate.gpus
    )


def _on_a_gpu(source: Source, make_auditor: MakeAuditor) -> Record:
    import torch

    return make_auditor(source).measure(Machine("cuda" if torch.cuda.is_available() else "cpu", _say))


def _say_all(record: Record) -> None:
    for line in lines(record):
        say(line)


def _say(text: str) -> None:
    say(Line("audit", text))
