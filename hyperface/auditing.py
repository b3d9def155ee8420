"""The audit of a run, without Ray: what is to be embedded, piece by piece, and then the audit itself.

A piece is a shard of the dataset or a chunk of real pictures; what is done is what has a file on storage.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hyperface import real_faces
from hyperface.config import Config
from hyperface.dataset.source import Source, open_source
from hyperface.evaluation import audit
from hyperface.evaluation.audit import Look, Record
from hyperface.evaluation.embedded import Network, assemble, embed_shard, shards_to_embed
from hyperface.evaluation.real_table import RealTable
from hyperface.models.loading import load_judge, load_recognizer
from hyperface.real_faces import Faces
from hyperface.run import AUDIT_EMBEDDINGS, Run


@dataclass(frozen=True)
class Piece:
    """A shard, or a chunk of a table's pictures."""

    number: int
    table: int = -1
    """Place among the tables of real faces; -1: a shard."""


@dataclass(frozen=True)
class Auditor:
    """A whole dataset, the networks that look at it, and real faces to compare it with."""

    source: Source
    networks: dict[str, Network]
    """`recognizer`, and `judge` where there is one."""

    @cached_property
    def faces(self) -> list[Faces]:
        return real_faces.given(self.source.run, self.networks["recognizer"].embedding_dim)

    @cached_property
    def asked(self) -> Record:
        return audit.asked(self.source, self.networks, {faces.name: faces.digest for faces in self.faces})

    @property
    def others(self) -> list[Network]:
        """Who has not seen the real faces: their tables are the recogniser's."""
        return [network for name, network in self.networks.items() if name != "recognizer"]

    def pieces(self) -> list[Piece]:
        """What is left to embed, found by one listing a network."""
        shards = [Piece(shard) for shard in shards_to_embed(self.source, list(self.networks.values()))]
        there = self.source.run.store.list(AUDIT_EMBEDDINGS) if self.others else {}
        chunks = [
            Piece(number, table)
            for table, faces in enumerate(self.faces)
            for number in (real_faces.chunks_to_embed(faces, self.others, there) if self.others else ())
        ]
        return shards + chunks

    def embed(self, piece: Piece) -> int:
        """Do a piece; the number of its pictures. Raises RunError."""
        if piece.table < 0:
            return embed_shard(self.source, piece.number, list(self.networks.values()))
        return real_faces.embed_chunk(self.faces[piece.table], piece.number, self.others, self.source.run.store)

    def measure(self, device: str = "cpu") -> Record:
        """Audit what is embedded, and write the records.

        Rows are assembled in a file on the local disk; memory grows by 50 bytes an image, and by the tables.
        """
        with tempfile.TemporaryDirectory(prefix="hyperface-audit-") as scratch:
            looks = [
                Look(name, network, assemble(self.source, network, Path(scratch, f"{name}.npy")))
                for name, network in self.networks.items()
            ]
            record, shown = audit.audit_run(self.source, looks, list(self._tables()), device)
        audit.write(self.source.run, self.asked, record, shown)
        return {"asked": self.asked, **record}

    def _tables(self) -> Iterator[RealTable]:
        store, classes = self.source.run.store, self.source.run.config.audit.classes
        for faces in self.faces:
            rows = {"recognizer": faces.table.vectors_ND}
            for name, network in self.networks.items():
                if name != "recognizer" and faces.chunks:
                    rows[name] = real_faces.rows_by(faces, network, store)
            yield real_faces.table_of(faces, rows, classes)


def load_networks(config: Config) -> dict[str, Network]:
    """{"recognizer": ..., "judge": ...}, the second where there is one. Raises ModelError."""
    networks: dict[str, Network] = {"recognizer": load_recognizer(config.recognizer)}
    if (judge := load_judge(config)) is not None:
        networks["judge"] = judge
    return networks


def open_auditor(run: Run) -> Auditor:
    """Prove that the dataset is whole, and load what looks at it.

    Raises:
        RunError: the dataset is not finished or damaged.
        ModelError: a network cannot be loaded.
    """
    return auditor_of(open_source(run))


def auditor_of(source: Source) -> Auditor:
    """The auditor of a dataset that was proved whole. Raises ModelError."""
    return Auditor(source, load_networks(source.run.config))


def audit_here(auditor: Auditor, device: str = "cpu") -> Record:
    """The whole audit in this process; a recorded one of equal inputs is returned as it is."""
    found = audit.recorded(auditor.source.run, auditor.asked)
    if found is not None:
        return found
    for piece in auditor.pieces():
        auditor.embed(piece)
    return auditor.measure(device)
