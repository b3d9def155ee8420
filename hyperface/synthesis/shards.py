"""The work of a worker on one shard, from its number to its marker, with or without Ray.

N: identities, d: embedding dimension.
"""

import hashlib
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperface.config import Config, Format
from hyperface.dataset import fingerprint, parquet, webdataset
from hyperface.dataset.commit import adopt, check_size, commit, record
from hyperface.dataset.dataset import Dataset
from hyperface.dataset.duplicates import to_text
from hyperface.dataset.marker import Marker
from hyperface.dataset.plan import Plan, shard_file
from hyperface.errors import ConfigError, EmbeddingError, RunError
from hyperface.faces import embeddings
from hyperface.models.protocols import FeatureGenerator, Models
from hyperface.run import Run
from hyperface.run.names import REFERENCES
from hyperface.synthesis import anchors as anchoring
from hyperface.synthesis import steering, variation
from hyperface.synthesis.batches import best_batch_size
from hyperface.synthesis.drawing import Drawing, Identities
from hyperface.synthesis.quality import Gate
from hyperface.synthesis.render import RenderedShard, render_shard


@dataclass(frozen=True)
class References:
    """The packed identities: row i is the reference embedding of identity `packing.first_identity` + i."""

    vectors_Nd: NDArray[np.float32]
    sha256: str
    """SHA-256 of the file."""
    norms_N: NDArray[np.float32] | None = None
    """Norms of the features that the rows are the directions of; None where nobody recorded them."""


def read_references(run: Run) -> References:
    """Read and check `packing/references.parquet`.

    Raises:
        RunError: there is none.
        EmbeddingError: not readable, NaN, not of norm 1, or not the configured identities in order.
    """
    name, first, count = REFERENCES, run.config.packing.first_identity, run.config.packing.num_identities
    if not run.store.exists(name):
        raise RunError(f"{run.store.uri(name)}: there are no references yet; run the pack job first")
    table = embeddings.read(run.store, name, "identity")
    if table.names != list(range(first, first + count)):
        raise EmbeddingError(
            f"{run.store.uri(name)}: must hold the identities {first} to {first + count - 1} in order "
            f"(packing.first_identity={first}, packing.num_identities={count}); it has {len(table.names)} rows, "
            f"{table.names[0]} to {table.names[-1]}; run the pack job again"
        )
    return References(table.vectors_ND, hashlib.sha256(run.store.read(name)).hexdigest(), table.norms)


@dataclass(frozen=True)
class ShardMaker:
    """Everything a worker needs to make any shard of a run."""

    dataset: Dataset
    references_Nd: NDArray[np.float32]
    models: Models
    drawing: Drawing
    fingerprint: str
    norms_N: NDArray[np.float32] | None = None
    """Norms of the references' features, as in `Identities`."""

    @cached_property
    def identities(self) -> Identities:
        """Return references and, for the judge, anchors, which must have been drawn before."""
        anchors = self._anchors(self.models.judge.embedding_dim) if self.models.judge else None
        return Identities(self.references_Nd, anchors, self.norms_N)

    def _anchors(self, dim: int) -> NDArray[np.float32]:
        return anchoring.read_anchors(self.dataset, self.fingerprint, dim)

    def make_anchors(self, block: int) -> int:
        """Draw what the judge compares the images of a block of identities with; return how many identities got
        none."""
        rows_Nd = self.references_Nd if self.norms_N is None else self.references_Nd * self.norms_N[:, None]
        return anchoring.make_block(self.dataset, self.fingerprint, block, rows_Nd, self.models, self.drawing)

    def make(self, shard: int, turn: AbstractContextManager[object] | None = None) -> dict[str, Any]:
        """Render a shard, commit it, and return its statistics; one that somebody finished, or nearly, is only adopted.

        Args:
            turn: entered before the generator is first called and left after it was last called, if it is.

        Raises:
            RenderError: the generator is broken.
            ShardError: the shard's name is taken by other bytes.
            StorageError: it cannot be written.
        """
        store, synthesis = self.dataset.store, self.dataset.config.synthesis
        if not synthesis.repair:
            adopted = adopt(self.dataset, shard, self.fingerprint)
            if adopted:
                return _row(adopted)
        rendered = render_shard(self.dataset.plan, shard, self.identities, self.models, self.drawing, turn)
        files = [(shard_file(kind, shard), self._encoded(kind, rendered)) for kind in self.dataset.formats]
        marker = Marker(
            shard=shard,
            files=tuple(record(name, data) for name, data in files),
            rows=len(rendered.samples),
            rejects=tuple(rendered.rejects),
            statistics=rendered.statistics,
            hashes=to_text(rendered.hashes) if synthesis.finds_duplicates else "",
            seconds=rendered.seconds,
            fingerprint=self.fingerprint,
            control=rendered.control,
        )
        return _row(commit(store, files, marker, repair=synthesis.repair))

    def _encoded(self, kind: Format, rendered: RenderedShard) -> bytes:
        if kind == "parquet":
            steered = self.drawing.control is not None
            return parquet.to_bytes(rendered.samples, self.models.recognizer.embedding_dim, steered)
        return webdataset.to_bytes(rendered.samples)


def _row(marker: Marker) -> dict[str, Any]:
    counted = {"shard": marker.shard, "rows": marker.rows, "rejects": len(marker.rejects)}
    control = {"control": marker.control} if marker.control else {}
    seconds = {f"{part}_seconds": spent for part, spent in marker.seconds.items()}
    return {**counted, **asdict(marker.statistics), **control, **seconds}


def shard_maker(run: Run, references: References, models: Models) -> ShardMaker:
    """Check that the models fit the references and each other, and that the dataset was begun with the same ones.

    Raises:
        EmbeddingError: the references have another dimension than the models.
        ConfigError: as `check_models`; or the dataset was begun with other models or references; names them.
    """
    config, dataset, given = run.config, Dataset.of(run), references.vectors_Nd.shape[1]
    if given != (dim := models.recognizer.embedding_dim):
        uri = run.store.uri(REFERENCES)
        raise EmbeddingError(f"{uri}: has dimension {given}; the recogniser works in {dim}; pack again with this one")
    check_models(config, models)
    control = steering.chosen(config.control, models.attributes.ranges if models.attributes else None)
    parts = fingerprint.parts(config, references.sha256, models)
    agreed = fingerprint.agree(run.store, parts, lambda: _batch_size(config, references, models, dataset.plan))
    return ShardMaker(
        dataset=dataset,
        references_Nd=references.vectors_Nd,
        models=models,
        drawing=_drawing(config, agreed[fingerprint.BATCH_SIZE], control),
        fingerprint=fingerprint.digest(agreed),
        norms_N=references.norms_N if isinstance(models.generator, FeatureGenerator) else None,
    )


def check_models(config: Config, models: Models) -> None:
    """Check that the models fit each other, and the configuration; no reference is needed for that.

    Raises:
        ConfigError: the generator takes other embeddings than the recogniser gives; the recogniser or judge takes
            images of another size than it is given; images cannot be steered to control.targets by these models; a
            shard would be too large.
    """
    dim, taken, generator = models.recognizer.embedding_dim, models.generator.embedding_dim, config.synthesis.generator
    if taken != dim:
        raise ConfigError(
            f"synthesis.generator={generator}: takes embeddings of {taken} numbers; the recogniser's have {dim}; "
            "choose another generator, or the recogniser that it was trained with"
        )
    drawn = models.aligner.image_size if models.aligner else models.generator.image_size
    for name, size in (
        ("recogniser", models.recognizer.image_size),
        ("judge", models.judge and models.judge.image_size),
    ):
        if size and size != drawn:
            raise ConfigError(
                f"synthesis.generator={generator}: images have {drawn} pixels; the {name} takes {size}; give one that "
                "takes the same, or set synthesis.alignment"
            )
    if config.control.steers:
        steering.chosen(config.control, models.attributes.ranges if models.attributes else None)
        steering.check_fit(models, drawn)
    check_size(config.synthesis.images_per_shard, drawn, dim)


def _drawing(config: Config, batch_size: int, control: steering.Control | None) -> Drawing:
    """Return the part of the configuration that decides how images are drawn and kept."""
    synthesis = config.synthesis
    return Drawing(
        variation=variation.chosen(synthesis),
        gate=Gate(
            min_cosine=synthesis.min_cosine,
            min_judge_cosine=synthesis.min_judge_cosine,
            min_sharpness=synthesis.min_sharpness,
            one_face=synthesis.one_face,
        ),
        batch_size=batch_size,
        max_attempts=synthesis.max_attempts,
        jpeg_quality=config.dataset.jpeg_quality,
        control=control,
    )


def _batch_size(config: Config, references: References, models: Models, plan: Plan) -> int:
    """Return the batch size that is configured, or found by trial."""
    if config.synthesis.batch_size:
        return config.synthesis.batch_size
    reference_d = references.vectors_Nd[0]

    def draw(size: int) -> None:
        models.generator.generate(np.repeat(reference_d[None], size, 0), list(range(size)))

    return best_batch_size(draw, plan.rows(0))
