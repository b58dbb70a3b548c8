"""Read weights from any source: a run, a checkpoint, a state_dict `.pt`, `.safetensors`, a folder in the form of model
hubs, or a public name, which is downloaded. Executes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from striate.errors import ModelError, RunError
from striate.models.layer_strings.arguments import nearest
from striate.models.weights.named import TENSORS, describe_folder, fetch, is_hub_folder, named_weights, read_config
from striate.models.weights.saved import Origin, Weights, load_run, network_of
from striate.runs.checkpoint import FORMAT
from striate.runs.files import user_path
from striate.runs.plain_files import typed
from striate.runs.safe_load import HoldsCode, load_safely

# Keys under which training scripts save the state_dict in their checkpoints, the most common first.
_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")
_SUFFIXES = frozenset((".pt", ".pth", ".bin", ".ckpt", ".safetensors"))
_PROGRAMS = frozenset((".onnx", ".xml"))
_EXPECTED = "a run, a checkpoint, a state_dict saved with torch.save, a .safetensors file, or a name as timm's"
_SAVE = 'save them anew where the network is at hand: torch.save(network.state_dict(), "weights.pt")'


def read_weights(text: str) -> Weights:
    """The tensors of a file; for a checkpoint of striate, a SavedNetwork.

    `text`: a file, a run, a folder in the form of model hubs, or a name (`named_weights`), which is downloaded. A
    state_dict may be under a usual key of a larger dict. The kind of file is recognized by its content, not its name.
    Raises ModelError where there is no such file, it cannot be read, or contains anything but tensors and plain values;
    RunError for a run without a checkpoint or with a damaged one, and for the home folder of an unknown user.
    """
    if (named := named_weights(text)) is not None:
        path, origin = fetch(named)
        return replace(_of_folder(text, path) if path.is_dir() else read_weights(str(path)), path=text, origin=origin)
    path = user_path(text)
    if _is_folder(path):
        if is_hub_folder(path):
            return _of_folder(text, path)
        file, content = load_run(text)
        return network_of(text, file, content)
    beginning = _beginning(text, path)
    if beginning[8:9] == b"{":
        return Weights(text.strip(), path, _checked(text, _load_safetensors(text, path)))
    content = _load_torch(text, path, beginning)
    if isinstance(content, Mapping) and content.get("format") == FORMAT and "network" in content:
        return network_of(text, path, dict(content))
    return Weights(text.strip(), path, _checked(text, _state_dict(content)))


def describe_weights(text: str) -> Origin:
    """The origin of weights, without reading their tensors; weights with a name are downloaded. Raises ModelError."""
    if (named := named_weights(text)) is not None:
        return fetch(named)[1]
    return describe_folder(user_path(text))


def holds_network(folder: Path) -> bool:
    """Whether `striate export --format hub` has written the folder: tensors, and the configuration of their network."""
    return is_hub_folder(folder) and isinstance(read_config(folder).get("network"), Mapping)


def _of_folder(text: str, folder: Path) -> Weights:
    """`model.safetensors` of a folder: the network of a run, where `striate export --format hub` has written it."""
    file, config = folder / TENSORS, read_config(folder)
    tensors = _checked(text, _load_safetensors(text, file))
    if not isinstance(config.get("network"), Mapping):
        return Weights(text.strip(), file, tensors, describe_folder(folder))
    content = {**config, "task": config.get("task_state"), "model": tensors}
    return network_of(text, file, content, describe_folder(folder))


def weights_digest(weights: Weights) -> str:
    """SHA-256, in hexadecimal, of the file. Raises ModelError where it cannot be read."""
    try:
        with weights.file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(weights.path, error.strerror or str(error)) from None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _files_of_weights(folder: Path) -> list[str]:
    """The names of runs and, by their suffix, of files of weights in a folder."""
    if not _is_folder(folder):
        return []
    return [p.name for p in folder.glob("*") if p.suffix in _SUFFIXES or _is_folder(p / "checkpoints")]


def _beginning(text: str, path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError("no regular file")
        with path.open("rb") as file:
            found = file.read(16)
    except FileNotFoundError:
        near = nearest(path.name, _files_of_weights(path.parent))
        remedy = f"--weights {path.with_name(near)}" if near else f"check the path, seen from {Path.cwd()}"
        raise ModelError(f"weights {text[:80]}", "no such file or folder", _EXPECTED, remedy) from None
    except (OSError, ValueError) as error:
        raise _unreadable(text, getattr(error, "strerror", None) or str(error)) from None
    if not found:
        raise _unreadable(text, "an empty file")
    return found


def _load_safetensors(text: str, path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        raise _unreadable(text, f"a damaged or cut .safetensors file: {_first_line(error)}") from None


def _load_torch(text: str, path: Path, beginning: bytes) -> Any:
    """The content of a file of torch.save, in either of its formats; only tensors and plain values are loaded."""
    if not beginning.startswith((b"PK\x03\x04", b"\x80")):
        if path.suffix not in _PROGRAMS:
            raise _unreadable(text, f"not a file of weights: it begins with {beginning!r}")
        got = f"a file that striate export wrote ({path.suffix}): a program, whose tensors have other names"
        remedy = "--weights RUN, the run that was exported; --format hub exports weights"
        raise ModelError(f"weights {text}", got, _EXPECTED, remedy)
    try:
        return load_safely(typed(path))
    except RunError:
        raise
    except MemoryError:
        raise _unreadable(text, "more than the memory of this machine holds") from None
    except Exception as error:  # a damaged pickle may raise anything
        raise _not_weights(text, error) from None


def _not_weights(text: str, error: Exception) -> ModelError:
    if "TorchScript" in str(error):
        got = "a TorchScript program instead of tensors"
    elif isinstance(error, HoldsCode):
        got = str(error)
    else:
        return _unreadable(text, f"a damaged or truncated file, or one without weights: {_first_line(error)}")
    return ModelError(f"weights {text}", got, f"tensors and plain values: {_EXPECTED}", _SAVE)


def _state_dict(content: Any) -> Any:
    """The dict of tensors itself, or under a usual key."""
    if not isinstance(content, Mapping) or _tensors(content):
        return content
    for key in _KEYS:
        if isinstance(content.get(key), Mapping) and _tensors(content[key]):
            return content[key]
    return content


def _tensors(values: Mapping[Any, Any]) -> bool:
    """Whether these are tensors by name; `_extra_state` of a module may be anything."""
    named = [v for k, v in values.items() if isinstance(k, str) and not k.endswith("_extra_state")]
    return bool(named) and all(isinstance(v, torch.Tensor) for v in named)


def _checked(text: str, tensors: Any) -> dict[str, Any]:
    if not isinstance(tensors, Mapping):
        raise ModelError(f"weights {text}", f"a {type(tensors).__name__}", "a dict of tensors by name", _SAVE)
    if not _tensors(tensors):
        keys = ", ".join(str(key)[:40] for key in list(tensors)[:6]) or "nothing"
        usual = ", ".join(_KEYS[:3])
        expected = f"tensors by name, there or under a usual key ({usual}, …)"
        raise ModelError(f"weights {text}", f"a dict of other things: {keys}", expected, _SAVE)
    for name, tensor in tensors.items():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and not _finite(text, name, tensor):
            got = f"{name} holds NaN or Inf"
            raise ModelError(f"weights {text}", got, "finite weights", "take an earlier checkpoint of that training")
    return {str(name): tensor for name, tensor in tensors.items()}


def _finite(text: str, name: object, tensor: torch.Tensor) -> bool:
    try:
        # Types of eight bits and less know few functions of their own.
        return bool((tensor if tensor.element_size() > 1 else tensor.float()).isfinite().all())
    except (NotImplementedError, RuntimeError):
        got = f"{name} of type {str(tensor.dtype).removeprefix('torch.')}, which no layer computes with"
        raise ModelError(f"weights {text}", got, "float32, float16 or bfloat16", _SAVE) from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _unreadable(text: str, reason: str) -> ModelError:
    return ModelError(f"weights {text[:80]}", reason, _EXPECTED, "download the file again, or name another")
