"""An ONNX file, named by path and SHA-256, as a session that runs it. Only home of onnxruntime."""

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperface.errors import ModelError
from hyperface.reading.one_line import one_line

TRY_S = 600.0
"""Seconds that the first batch of a model may take."""
LARGEST_SIZE = 4096
"""Pixels of a picture's side, and pictures of a batch that a file fixes."""


def open_session(path: str, sha256: str, keys: tuple[str, str], providers: Sequence[str] | None = None) -> Any:
    """An onnxruntime session of a local file, weights inside.

    Args:
        sha256: expected SHA-256 of the file, 64 hex digits.
        keys: names of path and SHA-256 in the configuration, for messages.
        providers: execution providers, preferred first; None: CUDA where onnxruntime has it, then CPU. On the CPU one
            thread is used: workers scale by processes.

    Raises:
        ModelError: the file cannot be read, has another SHA-256, or is no whole ONNX model: one that keeps weights in
            other files is none.
    """
    import onnxruntime  # only a run with a real recogniser or detector needs it

    data = checked_bytes(path, sha256, keys)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Weights beside the file would have no hash: they are looked for where nothing can be.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    if providers is None:
        offered = onnxruntime.get_available_providers()
        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in offered]
    try:
        session = onnxruntime.InferenceSession(data, options, providers=list(providers))
    except Exception as error:  # onnxruntime's errors share no public base class
        first = one_line(error)
        raise ModelError(f"{path}: onnxruntime cannot load it ({first}); give a whole ONNX model") from error
    sizes = [size for taken in session.get_inputs() for size in taken.shape if isinstance(size, int)]
    if not sizes or not session.get_outputs() or not all(0 < size <= LARGEST_SIZE for size in sizes):
        shown = ", ".join(str(taken.shape) for taken in session.get_inputs()) or "nothing"
        rule = f"must take pictures of 1 to {LARGEST_SIZE} pixels a side and give numbers"
        raise ModelError(f"{path}: {rule}; it takes {shown}; give another model")
    return session


def tried(path: str, session: Any, batch: NDArray[np.float32], at_most_s: float = TRY_S) -> list[NDArray[Any]]:
    """A model's outputs for its first batch.

    Args:
        at_most_s: seconds after which it is taken to have no end.

    Raises:
        ModelError: it cannot be run, has no end, or gives anything but numbers.
    """
    import onnxruntime

    options, late = onnxruntime.RunOptions(), threading.Event()

    def stop() -> None:
        late.set()
        options.terminate = True

    timer = threading.Timer(at_most_s, stop)
    timer.daemon = True
    timer.start()
    try:
        found = list(session.run(None, {session.get_inputs()[0].name: batch}, options))
    except Exception as error:  # onnxruntime has a class for each of its codes, and no common one
        if late.is_set():
            rule = f"has no answer for {len(batch)} pictures after {at_most_s:g} s"
            raise ModelError(f"{path}: {rule}; give another model") from error
        raise ModelError(f"{path}: onnxruntime cannot run it ({one_line(error)}); give another model") from error
    finally:
        timer.cancel()
    if not all(isinstance(out, np.ndarray) and out.dtype.kind in "fiub" for out in found):
        raise ModelError(f"{path}: must give arrays of numbers, and gives something else; give another model")
    return found


def checked_bytes(path: str, sha256: str, keys: tuple[str, str]) -> bytes:
    """All bytes of the file, which are the bytes that were hashed. Raises ModelError as `open_session`."""
    path_key, sha256_key = keys
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; give a local file as {path_key}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise ModelError(
            f"{path}: expected SHA-256 {sha256.lower()}, found {found}; fetch the file again, or set {sha256_key} "
            f"if this is the model you mean"
        )
    return data
