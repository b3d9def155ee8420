"""The section `plan`: keys of planning what a run will cost. All are knobs: nothing that is planned changes a byte of
the run."""

from dataclasses import dataclass

from hyperface.config.fields import knob


@dataclass(frozen=True)
class PlanConfig:
    gpus: int = knob(0, at_least=0)
    """GPUs of the cluster that is planned for. Stages whose actors reserve one share them."""
    cpus: int = knob(1, at_least=1)
    """CPU cores of that cluster. Stages whose actors reserve no GPU share them, one core each."""
    gpu_hour_price: float = knob(0.0, at_least=0)
    """Price of an hour of one GPU, in any currency, paid for all of `plan.gpus` all the time; 0: no cost is given."""
    gpu_memory_gb: float = knob(0.0, at_least=0)
    """Memory of one GPU in GB (1e9 bytes), which a worker of the packing should fit in; 0: not compared."""
    network_gb_per_s: float = knob(0.0, at_least=0)
    """GB that a worker of the packing sends to others in a second, while it receives as much; 0: not known, and the
    time on the network is then left out."""
    num_faces: int = knob(0, at_least=0)
    """Faces that embed.source holds; needed where embed.num_faces=0 (all of them)."""
    rates: str = knob("")
    """Table of measured rates (JSON, local or s3://); empty: the run's `plan/rates.json`, which --calibrate writes."""
