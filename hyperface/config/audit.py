"""The section `audit`: the examinations of a finished dataset."""

from dataclasses import dataclass, field
from typing import Literal

from hyperface.config.fields import Rules, file_rules, knob, number


@dataclass(frozen=True)
class AuditConfig:
    against: list[str] = knob([])
    """Real faces that no image may copy, besides the run's gallery and `packing.protected`: runs of jobs.embed, with
    the same recogniser, or tables of embeddings (.parquet, .npy)."""
    classes: Literal["folder", "each"] = "folder"
    """Rule by which real faces are of one person: those of one folder in their keys (faces without a folder are each a
    person of their own), or none."""
    false_accept_rate: float = number(1e-4, above=0, below=1)
    """Share of pairs of different real people above the cosine from which on a pair is counted as alike."""
    controls: int = number(50, at_least=0, least="no control")
    """Real faces that are copied (mirrored, shifted, compressed) and audited as if they were synthetic: the share of
    such leaks that is found is measured."""
    top_pairs: int = number(24, at_least=0)
    """Pairs of a synthetic and a real face, most alike first, that are recorded with their pictures."""
    attributes: Literal["auto", "none", "toy", "onnx", "labels"] = "auto"
    """Attributes whose spread is measured: read from images (`toy`: by the toy world's own reader, `onnx`: by
    `audit.attribute_path`), or the table `audit.labels`. `auto`: toy where recognizer.kind=toy, else none."""
    attribute_path: str = knob("")
    """An ONNX model of aligned faces to numbers [batch, attributes]; required for audit.attributes=onnx."""
    attribute_sha256: str = ""
    """Expected SHA-256 of the file; required for audit.attributes=onnx."""
    attribute_names: list[str] = field(default_factory=list)
    """Names of the model's numbers; required for audit.attributes=onnx."""
    labels: str = knob("")
    """A CSV file: a column `identity` or `key`, and a column for each attribute; required for
    audit.attributes=labels."""
    num_actors: int = knob(0, at_least=0)
    """Actors that embed the images; 0: one per available CPU (or GPU)."""
    gpus_per_actor: float = knob(0.0, at_least=0)
    """GPUs that each actor of the audit reserves."""
    max_failures: int = knob(3, at_least=0)
    """Times a shard is tried again after its actor died, before the job fails."""


def audit_rules(a: AuditConfig, *, toy: bool) -> Rules:
    onnx = a.attributes == "onnx"
    yield "audit.attributes", toy or a.attributes != "toy", "`toy` reads the toy recogniser's embeddings only"
    when = "when audit.attributes=onnx"
    yield from file_rules("audit.attribute_", a.attribute_path, a.attribute_sha256, needed=onnx, when=when)
    rule = "must name the model's numbers when audit.attributes=onnx, e.g. [age,yaw]"
    yield "audit.attribute_names", bool(a.attribute_names) or not onnx, rule
    each = len(set(a.attribute_names)) == len(a.attribute_names)
    yield "audit.attribute_names", each, "must be different names: a number of the model would be lost"
    yield "audit.labels", bool(a.labels) or a.attributes != "labels", "is required when audit.attributes=labels"
