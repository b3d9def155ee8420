"""Published model folders: found here or on the hub, hashed as a whole, every weight accounted for.

Only home of huggingface_hub.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hyperface.errors import ModelError
from hyperface.models import torch_file
from hyperface.reading.one_line import one_line

Wanted = Sequence[tuple[str, ...]]
"""Names of files below a model's folder; of each tuple one is needed, the preferred one first."""

_SHOWN = 5


def find(key: str, path: str, revision: str, wanted: Wanted, cache: str | None = None) -> dict[str, Path]:
    """Return {preferred name: file} of a model in a local folder, or in a repository of the hub at one commit.

    What the hub's cache holds is taken from there: a commit never changes, so that a cluster without the internet runs
    from a cache that was filled elsewhere (HF_HOME).

    Args:
        key: the configuration's name of the path, for messages; that of the revision goes with it.
        path: folder, or `owner/name` on the hub.
        revision: the repository's commit, 40 hex digits; not read for a folder.
        wanted: the files of the model.
        cache: folder of the hub's cache; None: the usual one.

    Raises:
        ModelError: no such folder or repository, a commit that is not given in full, or a file that is missing.
    """
    if Path(path).is_dir():
        return _settled(key, path, wanted, lambda names: _first(_there(Path(path) / name) for name in names))
    section, _, last = key.rpartition(".")
    commit_key = f"{section}.{last.replace('path', 'revision')}"
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", path):
        raise ModelError(f"{key}: must be a folder on this machine or owner/name on the hub; {path!r} is neither")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ModelError(
            f"{commit_key}: must be the full commit of {path}, 40 hex digits; it is {revision!r}; copy it from the "
            f"hub's list of commits, or give a folder as {key}"
        )
    return _settled(key, f"{path} at {revision}", wanted, lambda names: _from_hub(key, path, revision, names, cache))


def _settled(key: str, where: str, wanted: Wanted, look: Callable[[tuple[str, ...]], Path | None]) -> dict[str, Path]:
    found, missing = {}, []
    for names in wanted:
        there = look(names)
        if there is None:
            missing.append(" or ".join(names))
        else:
            found[names[0]] = there
    if missing:
        layout = ", ".join(names[0] for names in wanted)
        raise ModelError(f"{key}: {where} lacks {', '.join(missing)}; it must hold {layout}; fetch the model again")
    return found


def _first(paths: Iterable[Path | None]) -> Path | None:
    return next((path for path in paths if path), None)


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _from_hub(key: str, repository: str, revision: str, names: tuple[str, ...], cache: str | None) -> Path | None:
    """Return a file of one of these names from the hub's cache, else from the hub; None when the commit has none of
    them."""
    from huggingface_hub import try_to_load_from_cache

    cached = [try_to_load_from_cache(repository, name, cache_dir=cache, revision=revision) for name in names]
    return _first(Path(path) for path in cached if isinstance(path, str)) or _first(
        # Neither a path nor None: the cache remembers that the commit has no such file.
        _fetched(key, repository, revision, name, cache)
        for name, path in zip(names, cached, strict=True)
        if path is None
    )


def _fetched(key: str, repository: str, revision: str, name: str, cache: str | None) -> Path | None:
    """The file, fetched into the cache; None when the commit has no such file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, name, revision=revision, cache_dir=cache))
    except LocalEntryNotFoundError as error:
        reason = "the hub cannot be reached and its cache lacks the file; fill the cache (HF_HOME), or give a folder"
        raise ModelError(f"{key}: {repository} at {revision}, {name}: {reason}") from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError) as error:
        first = one_line(error)
        raise ModelError(
            f"{key}: {repository} at {revision}, {name}: cannot be fetched ({first}); check repository and commit, or "
            f"give a folder"
        ) from error


def digest(files: Mapping[str, Path]) -> str:
    """SHA-256, in hex, over the lines `SHA-256  NAME` of all files, sorted by name.

    Raises:
        ModelError: a file cannot be read.
    """
    lines = []
    for name, path in sorted(files.items()):
        try:
            with path.open("rb") as stream:
                lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {name}\n")
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}; fetch the model again") from error
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a PyTorch file that holds nothing but tensors.

    Raises:
        ModelError: cut off, damaged, or a pickle of other objects, which is never run.
    """
    if path.suffix != ".safetensors":
        tensors = torch_file.read(path, str(path))
    else:
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as error:
            first = one_line(error)
            raise ModelError(f"{path}: cannot be read as weights ({first}); fetch the file again") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ModelError(f"{path}: must hold a dictionary of tensors; give the weights, not a training checkpoint")
    return tensors


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    """Give every weight of the network its tensor, in `dtype`; the network then is ready to use, not to train.

    Raises:
        ModelError: a weight without tensor, a tensor without weight, or another shape; each by name.
    """
    wanted = network.state_dict()
    wrong = {
        "lacks": sorted(wanted.keys() - tensors.keys()),
        "has unexpectedly": sorted(tensors.keys() - wanted.keys()),
        "has in another shape": sorted(
            name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape
        ),
    }
    if any(wrong.values()):
        said = "; ".join(f"{what} {_listed(names)}" for what, names in wrong.items() if names)
        raise ModelError(
            f"{path}: does not fit {type(network).__name__}: {said}; give weights and config.json together"
        )
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, assign=True)
    left = [name for name, tensor in (*network.named_parameters(), *network.named_buffers()) if tensor.is_meta]
    assert not left, left
    network.eval().requires_grad_(False)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def renamed(tensors: Mapping[str, Tensor], names: Iterable[str], pairs: Mapping[str, str]) -> dict[str, Tensor]:
    """Return tensors under the names of today: in a name that is not among `names`, each old part gives way to the
    new."""
    known, out = set(names), {}
    for name, tensor in tensors.items():
        new = name
        if name not in known:
            for old, now in pairs.items():
                new = new.replace(old, now)
        out[new] = tensor
    return out
