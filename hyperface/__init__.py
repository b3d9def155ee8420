"""HyperFace on Ray: the library. Mathematics, models, formats and measurement; it never imports ray.

Its public names are imported when they are first asked for: `import hyperface` costs nothing. `hyperface/README.md` has
an example of each.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperface.config import Config as Config
    from hyperface.config import PackingConfig as PackingConfig
    from hyperface.config import load as load_config
    from hyperface.dataset import Dataset as Dataset
    from hyperface.dataset.verify import verify as verify
    from hyperface.packing import Packing as Packing
    from hyperface.packing import pack as pack
    from hyperface.run import Run as Run
    from hyperface.run import existing_run as existing_run
    from hyperface.run import open_run as open_run

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Dataset",
    "Packing",
    "PackingConfig",
    "Run",
    "existing_run",
    "load_config",
    "open_run",
    "pack",
    "verify",
]
_HOMES = {
    "hyperface.config": {"Config", "PackingConfig", "load_config"},
    "hyperface.dataset": {"Dataset", "verify"},
    "hyperface.packing": {"Packing", "pack"},
    "hyperface.run": {"Run", "existing_run", "open_run"},
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name.removesuffix("_config"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
