"""Stage embed on Ray Data: chunks of faces fan out to recogniser actors; the driver assembles one gallery file."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cluster.actor_pool import PoolActor, fan_out
from cluster.metrics import watching
from hyperface.config import Config
from hyperface.faces import gallery, source
from hyperface.faces.embeddings import to_parquet
from hyperface.faces.gallery import EmbeddedFace
from hyperface.models.loading import load_recognizer
from hyperface.models.protocols import Recognizer
from hyperface.progress.logs import Line, say
from hyperface.progress.meter import Meter
from hyperface.run import Run
from hyperface.run.names import GALLERY


class _Embedder(PoolActor):
    """An actor: one recogniser, one chunk of faces at a time."""

    def __init__(self, chunks: list[source.Chunk], config: Config) -> None:
        super().__init__()
        self.chunks, self.config = chunks, config
        self.recognizer: Recognizer | None = None

    def work(self, piece: int) -> Mapping[str, Sequence[Any]]:
        self.recognizer = self.recognizer or load_recognizer(self.config.recognizer)
        passed_over = Counter[str]()
        faces = gallery.embed_chunk(self.chunks[piece], self.config, self.recognizer, passed_over)
        nothing_D = np.zeros(self.recognizer.embedding_dim, np.float32)
        faces += [EmbeddedFace(kind, nothing_D, "", "") for kind in passed_over]
        return {
            "key": [face.key for face in faces],
            "embedding": [face.embedding_D for face in faces],
            "digest": [face.digest for face in faces],
            "problem": [face.problem for face in faces],
            "norm": [face.norm for face in faces],
            "passed_over": [0] * (len(faces) - len(passed_over)) + list(passed_over.values()),
        }


def embed_stage(run: Run) -> None:
    """Write the run's gallery; nothing to do when it is there.

    Raises:
        RunError: too many faces cannot be used; they are listed here and in records/embed.jsonl.
        ConfigError: the source holds no faces. Or as `gallery.bind`.
    """
    if run.store.exists(GALLERY):
        say(Line("embed", f"done, {run.store.uri(GALLERY)}"))
        return
    started, config, passed_over = time.monotonic(), run.config.embed, Counter[str]()
    gallery.bind(run)
    made = gallery.assemble(_embed(run, passed_over), config.num_faces)
    passed_over[source.BEYOND] += made.beyond
    gallery.bind(run)  # faces take hours: whoever came meanwhile must not get another's gallery
    run.record("embed", [{"event": "problem", "key": key, "problem": problem} for key, problem in made.problems])
    gallery.refuse_bad(made, config.max_bad_fraction, passed_over)
    run.store.put_new(GALLERY, to_parquet("key", made.embeddings))
    faces, seconds = len(made.embeddings.names), time.monotonic() - started
    finished = {"event": "finished", "faces": faces, "problems": len(made.problems), "seconds": round(seconds, 2)}
    run.record("embed", [finished | {"left_out": gallery.left_out(made), "passed_over": +passed_over}])
    say(Line("embed", f"{gallery.account(made, passed_over)}, {seconds:.0f} s -> {run.store.uri(GALLERY)}"))


def _embed(run: Run, passed_over: Counter[str]) -> list[EmbeddedFace]:
    """Embed every face of the source, in no particular order, with progress on standard output.

    Args:
        passed_over: counts the files of the source that are no faces.
    """
    config, faces, left_out = run.config, list[EmbeddedFace](), 0
    chunks = source.plan_chunks(config.embed, config.storage, passed_over)
    with (
        fan_out(
            range(len(chunks)),
            _Embedder,
            (chunks, config),
            stage="embed",
            cluster=config.cluster,
            actors=config.embed.num_actors,
            gpus=config.embed.gpus_per_actor,
            failures=config.embed.max_failures,
        ) as rows,
        Meter("embed", len(chunks), "chunks", watch=watching(run, "embed")) as meter,
    ):
        for done, batch in enumerate(rows, start=1):
            columns = (batch[name] for name in ("key", "embedding", "digest", "problem", "norm"))
            for number, *values in zip(batch["passed_over"].tolist(), *columns, strict=True):
                face = EmbeddedFace(*values)
                if number:
                    passed_over[face.key] += number
                else:
                    faces.append(face)
                    left_out += bool(face.problem)
            meter.reach(done, {"faces": len(faces) - left_out, "faces_left_out": left_out})
    return faces
