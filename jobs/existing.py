"""The run that a job is told to read: `RUN [storage.key=value ...]`, a run.dir or the configuration it came from."""

from collections.abc import Sequence

from hyperface import config as configuration
from hyperface.command_line import is_config
from hyperface.config import ConfigError
from hyperface.run import Run, existing_run


def run_of(source: str, overrides: Sequence[str]) -> Run:
    """The run of a directory, or of the configuration whose run.dir it is. Raises ConfigError when there is none."""
    directory = configuration.load(source, overrides).run.dir if is_config(source) else source
    return existing_run(directory, storage_of(source, overrides))


def storage_of(source: str, overrides: Sequence[str]) -> configuration.StorageConfig:
    """How storage is reached: from the configuration or the command line. Raises ConfigError for any other key."""
    if is_config(source):
        return configuration.load(source, overrides).storage
    if any(not override.startswith("storage.") for override in overrides):
        raise ConfigError(f"{' '.join(overrides)}: only storage.* keys apply to a run that exists")
    return configuration.load(None, ["run.dir=.", *overrides]).storage
