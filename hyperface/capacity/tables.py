"""Numbers of rows of the tables of a configuration, without reading the rows."""

import pyarrow as pa
import pyarrow.parquet as pq

from hyperface.config import Config, StorageConfig
from hyperface.errors import EmbeddingError, StorageError
from hyperface.faces import embeddings
from hyperface.packing import keep_away
from hyperface.reading.one_line import one_line
from hyperface.storage import open_file


def row_counts(config: Config) -> tuple[int, int]:
    """Return the numbers of (frozen, protected) rows.

    Raises:
        ConfigError: a file is missing; names the key.
        EmbeddingError: it is no table.
    """
    keep_away.refuse_missing(config.packing, config.storage)
    frozen = sum(_rows(path, config.storage) for path in keep_away.frozen_files(config.packing))
    return frozen, _rows(config.packing.protected, config.storage) if config.packing.protected else 0


def _rows(path: str, storage: StorageConfig) -> int:
    store, name = open_file(path, storage)
    if not name.endswith(".parquet"):
        return len(embeddings.read_file(path, storage).vectors_ND)
    try:
        with store.open(name) as file:
            return int(pq.read_metadata(file).num_rows)
    except StorageError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        said = f"is not a readable embedding table ({one_line(error)})"
        raise EmbeddingError(f"{store.uri(name)}: {said}; write it again") from error
