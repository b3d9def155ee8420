"""The audit of a run, without Ray: what is to be embedded, piece by piece, and then the audit itself.

A piece is a shard of the dataset or a chunk of real pictures; what is done is what has a file on storage.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hyperface.audit import real_faces, traits
from hyperface.audit import record as audit
from hyperface.audit.attributes import Attributes
from hyperface.audit.image_embeddings import Network, assemble, embed_shard, shards_to_embed
from hyperface.audit.machine import CPU, Machine
from hyperface.audit.real_faces import GALLERY_TABLE, Faces
from hyperface.audit.real_table import RealTable
from hyperface.audit.record import Look, Record
from hyperface.audit.separation import Centres
from hyperface.audit.traits import load_attribute_model
from hyperface.config import Config
from hyperface.dataset.source import Source
from hyperface.models.loading import load_judge, load_recognizer
from hyperface.run.names import AUDIT_EMBEDDINGS
from hyperface.storage.scratch import scratch


@dataclass(frozen=True)
class Piece:
    """A shard, or a chunk of a table's pictures."""

    number: int
    table: int = -1
    """Position among the tables of real faces; -1: a shard."""


@dataclass(frozen=True)
class Auditor:
    """A whole dataset, the networks that look at it, and real faces to compare it with."""

    source: Source
    networks: dict[str, Network]
    """`recognizer`, then `judge` where there is one."""
    attribute_model: Network | None = None
    told: tuple[Faces, ...] | None = None
    """The tables of real faces without their rows, where another process has read them: enough to embed pictures."""

    @cached_property
    def faces(self) -> list[Faces]:
        if self.told is not None:
            return list(self.told)
        return real_faces.given(self.source.run, self.networks["recognizer"].embedding_dim)

    @cached_property
    def asked(self) -> Record:
        config = self.source.run.config
        read = {faces.name: {"sha256": faces.digest, "chunks": len(faces.chunks)} for faces in self.faces}
        labels = traits.digest(config.audit, config.storage) if config.audit.attributes == "labels" else ""
        return audit.asked(self.source, self.networks, read, labels)

    @property
    def looking(self) -> list[Network]:
        """Networks that are shown the images."""
        return [*self.networks.values(), *([self.attribute_model] if self.attribute_model else [])]

    def shown(self, faces: Faces) -> list[Network]:
        """Return the networks that are shown the pictures of a table: it holds the recogniser's rows."""
        others = [network for name, network in self.networks.items() if name != "recognizer"]
        return [*others, *([self.attribute_model] if self.attribute_model and faces.name == GALLERY_TABLE else [])]

    def pieces(self) -> list[Piece]:
        """Return the pieces that are left to embed, found by one listing a network."""
        shards = [Piece(shard) for shard in shards_to_embed(self.source, self.looking)]
        there = self.source.run.store.list(AUDIT_EMBEDDINGS)
        return shards + [
            Piece(number, table)
            for table, faces in enumerate(self.faces)
            for number in real_faces.chunks_to_embed(faces, self.shown(faces), there)
        ]

    def embed(self, piece: Piece) -> int:
        """Embed a piece and return the number of its pictures. Raises RunError."""
        if piece.table < 0:
            return embed_shard(self.source, piece.number, self.looking)
        faces = self.faces[piece.table]
        return real_faces.embed_chunk(faces, piece.number, self.shown(faces), self.source.run.store)

    def measure(self, on: Machine = CPU) -> Record:
        """Audit what is embedded, and write the records.

        Rows are assembled in files on the local disk, 4 D bytes an image for each network. Memory: 28 bytes an image
        for each network (its identity, number and nearest), some 30 more while one is looked at, the centres of the
        identities, and the tables.
        """
        assert self.told is None, "the rows of the tables are elsewhere"
        with scratch() as place:
            looks = [
                Look(name, network, assemble(self.source, network, Path(place, f"{name}.npy")))
                for name, network in self.networks.items()
            ]

            def read(centres: Centres) -> Attributes | None:
                return self._attributes(centres, Path(place, "attributes.npy"))

            record, shown = audit.audit_run(self.source, looks, list(self._tables()), read, on)
        return audit.write(self.source.run, self.asked, record, shown)

    def _tables(self) -> Iterator[RealTable]:
        store, classes = self.source.run.store, self.source.run.config.audit.classes
        for faces in self.faces:
            rows = {"recognizer": faces.table.vectors_ND}
            for name, network in self.networks.items():
                if name != "recognizer" and faces.chunks:
                    rows[name] = real_faces.rows_by(faces, network, store)
            yield real_faces.table_of(faces, rows, classes)

    def _attributes(self, centres: Centres, path: Path) -> Attributes | None:
        config, store = self.source.run.config, self.source.run.store
        gallery = next((faces for faces in self.faces if faces.name == GALLERY_TABLE), None)
        if self.attribute_model:
            stored = assemble(self.source, self.attribute_model, path)
            seen = real_faces.rows_by(gallery, self.attribute_model, store) if gallery and gallery.chunks else None
            return traits.by_model(config.audit.attribute_names, stored, seen)
        if config.audit.attributes == "labels":
            return traits.by_labels(config.audit, config.storage, self.source.classes)
        if traits.toy_can_read(config.audit, self.networks["recognizer"].fingerprint):
            rows_GD = gallery.table.vectors_ND if gallery else None
            return traits.by_toy(centres.identities_I, centres.rows_ID, rows_GD)
        return None


def load_networks(config: Config) -> dict[str, Network]:
    """{"recognizer": ..., "judge": ...}, the second where there is one. Raises ModelError."""
    networks: dict[str, Network] = {"recognizer": load_recognizer(config.recognizer)}
    if (judge := load_judge(config)) is not None:
        networks["judge"] = judge
    return networks


def auditor_of(source: Source) -> Auditor:
    """The auditor of a dataset that was proved whole. Raises ModelError."""
    config = source.run.config
    return Auditor(source, load_networks(config), load_attribute_model(config.audit))


def audit_here(auditor: Auditor, on: Machine = CPU) -> Record:
    """The whole audit in this process; a recorded one of equal inputs is returned as it is."""
    found = audit.recorded(auditor.source.run, auditor.asked)
    if found is not None:
        return found
    for piece in auditor.pieces():
        auditor.embed(piece)
    return auditor.measure(on)
