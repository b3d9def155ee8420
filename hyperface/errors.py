"""The family of errors that a user can mend: each message says in one line what is wrong and what to do.

Whatever else is raised is a defect of this product, and keeps its traceback.
"""


class UserError(Exception):
    """The base of them all. A job that one of them ends has its `exit_code`."""

    exit_code = 1


class ConfigError(UserError, ValueError):
    """A configuration that cannot be used. The message names the key, the rule, the value and the fix."""

    exit_code = 2


class EmbeddingError(UserError, ValueError):
    """An embedding table that cannot be used. The message names the file, the rule and the rows."""


class ModelError(UserError, ValueError):
    """A model file that cannot be used. The message names the file, the rule and the fix."""


class StorageError(UserError, OSError):
    """Bytes that cannot be listed, read or written. The message names the URI, what happened and the fix."""


class RunError(UserError, RuntimeError):
    """A run that cannot go on. The message says what is wrong and what to do."""


class RenderError(UserError, RuntimeError):
    """A shard of which no image could be drawn: the generator is broken, not an image."""


class ShardError(UserError, RuntimeError):
    """A shard whose name is taken by other bytes. The message names the file and the way out."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory was refused to a process, by the system or by PyTorch, on a CPU or a GPU."""
    by_torch = type(error).__name__ == "OutOfMemoryError"
    said = any(text in str(error) for text in ("out of memory", "allocate memory"))  # of the CPU, in a RuntimeError
    return isinstance(error, MemoryError) or by_torch or (said and isinstance(error, RuntimeError))
