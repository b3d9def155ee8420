"""The section `packing`: the placing of reference embeddings."""

from dataclasses import dataclass
from typing import Literal

from hyperface.config.fields import Rules, knob, number


@dataclass(frozen=True)
class PackingConfig:
    num_identities: int = number(1000, at_least=2, reason="one identity has no neighbour")
    """Identities to pack, besides those of `packing.frozen`."""
    separation: Literal["closest_pair", "nearest", "logsumexp"] = "logsumexp"
    """Objective that is minimised: cosine of the closest pair (paper), mean nearest cosine, or a soft maximum of all
    pairs."""
    alpha: float = number(0.5, at_least=0)
    """Weight of the term that keeps references near gallery embeddings (HyperFace, ICLR 2025: 0.5); 0: none."""
    start: Literal["gallery", "random", "algebraic", "rejection", "pca"] = "gallery"
    """Points where references begin: gallery embeddings (paper), random points, the best algebraic code (alpha=0 only),
    or Vec2Face's samples, of which no two are near each other: of random directions (`rejection`), or of features from
    a normal distribution fitted to the gallery's (`pca`). With packing.steps=0 the sample is the references."""
    start_cosine: float = number(0.3, at_least=-0.99, below=1)
    """`rejection`, `pca`: the largest cosine between two identities of the start (Vec2Face: 0.3 and 0.4 both seen)."""
    start_candidates: int = knob(20, at_least=1)
    """`rejection`, `pca`: candidates, for each identity, after which a sample is given up."""
    steps: int = number(20, at_least=0)
    """Optimisation steps; 0: the references are the start itself. A few repair a biased gallery, and trained better
    students of the toy world than hundreds did, which pack much tighter."""
    learning_rate: float = number(0.01, above=0, at_most=1)
    """Step size of Adam on the embeddings; `logsumexp` scales it with its falling temperature. 0.01 is recalled from
    the paper, not verified."""
    target_cosine: float = number(-1.0, at_least=-1, below=1, least="take all steps")
    """Stop as soon as no two identities are closer than this cosine; -1: take all steps."""
    patience: int = number(0, at_least=0, least="take all steps")
    """Stop when the best objective so far is so many steps old; 0: take all steps."""
    batch_identities: int = 0
    """Identities that move in a step, a random choice; 0: all of them."""
    batch_against: Literal["all", "batch"] = "all"
    """Identities that those of a random choice keep away from: all others (packs tighter in equal time), or each other
    only (Algorithm 2 of the paper)."""
    neighbours_every: int = number(10, at_least=1)
    """Steps between searches for the nearest gallery and protected rows of each identity; 1: each step."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the products of a step and of the rows that workers exchange. `bfloat16` is twice as fast where the
    processor has it; `logsumexp` takes its coldest steps in float32 all the same. Reported numbers are always
    float32."""
    restarts: int = number(1, at_least=1)
    """Small free problems only: pack from so many random starts as one batch, and keep the tightest."""
    polish: bool = False
    """Small free problems only: refine the result to machine precision at the end."""
    frozen: str = ""
    """References of an existing dataset (.parquet or .npy; several, separated by commas), which stay as they are:
    identities keep away from them."""
    first_identity: int = number(0, at_least=0)
    """Number of the first identity. A run that makes a dataset larger starts where the finished part ends, so that
    labels, keys and seeds of the parts never collide."""
    protected: str = ""
    """Embeddings of real people (.parquet or .npy) by the same recogniser, that no reference may come near to."""
    protected_cosine: float = number(0.3, at_least=-0.99, below=1)
    """The largest cosine between a reference and a protected embedding. Images scatter around their reference and are
    not held to it."""
    checkpoint_every: int = knob(200, at_least=1)
    """Steps between checkpoints."""
    num_workers: int = knob(1)
    """Ray Train workers among which the references are sharded by rows."""
    min_workers: int = knob(0)
    """Start, or go on, with so few workers when there is no room for num_workers; 0: wait for all of them."""
    gpus_per_worker: float = knob(0.0, at_least=0)
    """GPUs that each packing worker reserves; above 0 the all-gather runs on NCCL, else on gloo."""
    max_failures: int = knob(3, at_least=0)
    """Worker failures after which packing gives up; each restarts from the last checkpoint."""

    @property
    def batched(self) -> bool:
        """Return whether a random choice of the identities moves in a step, and not all of them."""
        return self.batch_identities != 0

    @property
    def stops_early(self) -> bool:
        """Return whether packing may stop before it has taken all steps."""
        return self.target_cosine > -1 or self.patience > 0


def packing_rules(p: PackingConfig) -> Rules:
    n, free = p.num_identities, p.alpha == 0 and not (p.frozen or p.protected)
    for key, wanted in (("start", p.start == "algebraic"), ("restarts", p.restarts > 1), ("polish", p.polish)):
        rule = "is for the free problem: it needs packing.alpha=0, no packing.frozen and no packing.protected"
        yield f"packing.{key}", free or not wanted, rule
    some = not p.batched or 2 <= p.batch_identities <= n
    yield "packing.batch_identities", some, "must be 0 (all) or between 2 and packing.num_identities"
    for key, wanted in (("target_cosine", p.target_cosine > -1), ("patience", p.patience > 0)):
        rule = "needs packing.batch_identities=0: a step of a random choice does not see all pairs"
        yield f"packing.{key}", not (p.batched and wanted), rule
    one = p.num_workers == 1 or (p.restarts == 1 and not p.polish)
    yield "packing.num_workers", one, "must be 1 with packing.restarts or packing.polish, which are for small problems"
    rule = f"plus packing.first_identity={p.first_identity} must not exceed 10000000: a key gives an identity 7 digits"
    yield "packing.num_identities", p.first_identity + n <= 10_000_000, rule
    yield "packing.num_workers", 1 <= p.num_workers <= n, "must be between 1 and packing.num_identities"
    rule = "must be between 0 (all of them) and packing.num_workers"
    yield "packing.min_workers", 0 <= p.min_workers <= p.num_workers, rule
    shared = p.num_workers > 1 and 0 < p.gpus_per_worker < 1
    yield "packing.gpus_per_worker", not shared, "must be 0 or at least 1 with several workers (NCCL)"
