"""Everything that can be seen of some objects, as a flat dictionary, to be compared bit for bit before and after."""

from __future__ import annotations

import gc
import random
import signal
import types
import warnings
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Seen = dict[str, Any]

_PLAIN = (int, str, bool, bytes, complex, type(None), torch.dtype, torch.device, torch.Size, torch.memory_format)


def seen_of(**objects: Any) -> Seen:
    """All that hangs on these objects, by path: plain values as they are, arrays and tensors as bytes."""
    seen: Seen = {}
    known: dict[int, object] = {}  # holds what was seen, so that no number comes twice
    for name, value in objects.items():
        _look(value, name, seen, known)
    return seen


def surroundings() -> Seen:
    """What is not part of any object: random states, and the settings of torch and Python that a look may touch."""
    kind, keys, *rest = np.random.get_state()
    return {
        "random of torch": torch.get_rng_state().numpy().tobytes(),
        "random of NumPy": (kind, np.asarray(keys).tobytes(), *rest),
        "random of Python": random.getstate(),
        "gradients on": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "default type": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "oneDNN": torch.backends.mkldnn.enabled,
        "matmul": torch.get_float32_matmul_precision(),
        "hooks on all modules": [
            (name, sorted(vars(torch.nn.modules.module)[name]))
            for name in sorted(vars(torch.nn.modules.module))
            if name.startswith("_global") and name.endswith("hooks")
        ],
        "functions of torch": [
            id(f) for f in (torch.nn.Module.__call__, Tensor.backward, torch.autograd.backward, torch.optim.Adam.step)
        ],
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "collector": (gc.isenabled(), gc.get_threshold()),
    }


def changes(before: Seen, after: Seen) -> list[str]:
    """The paths that differ, at most twenty."""
    gone = [f"{path} is gone" for path in before if path not in after]
    new = [f"{path} is new" for path in after if path not in before]
    other = [
        f"{path}: {_short(before[path])} became {_short(after[path])}"
        for path in before
        if path in after and before[path] != after[path]
    ]
    return (gone + new + other)[:20]


def _short(value: Any) -> str:
    return repr(value)[:80]


def _look(value: Any, path: str, seen: Seen, known: dict[int, object]) -> None:
    if isinstance(value, float):
        seen[path] = value.hex()
    elif isinstance(value, _PLAIN):
        seen[path] = value
    elif isinstance(value, np.generic):
        seen[path] = (value.dtype, value.tobytes())
    elif id(value) in known:
        seen[path] = id(value)
    else:
        known[id(value)] = value
        if not _look_at_array(value, path, seen, known):
            _look_inside(value, path, seen, known)


def _look_at_array(value: Any, path: str, seen: Seen, known: dict[int, object]) -> bool:
    """Whether it was an array, or a source of random numbers."""
    if isinstance(value, Tensor):
        seen[path] = (id(value), value.dtype, tuple(value.shape), value.stride(), value.data_ptr(), _bits(value))
        seen[f"{path} needs a gradient"] = (value.requires_grad, value.is_leaf)
        _look(value.grad if value.is_leaf else None, f"{path}.grad", seen, known)
        _look(getattr(value, "_backward_hooks", None), f"{path} hooks", seen, known)
        _look(getattr(value, "_post_accumulate_grad_hooks", None), f"{path} later hooks", seen, known)
    elif isinstance(value, np.ndarray):
        seen[path] = (id(value), value.dtype, value.shape, value.tobytes())
    elif isinstance(value, torch.Generator):
        seen[path] = (id(value), value.get_state().numpy().tobytes())
    elif isinstance(value, np.random.Generator):
        seen[path] = (id(value), repr(value.bit_generator.state))
    elif isinstance(value, np.random.RandomState):
        seen[path] = (id(value), repr(value.get_state()))
    elif isinstance(value, random.Random):
        seen[path] = (id(value), value.getstate())
    else:
        return False
    return True


def _bits(value: Tensor) -> bytes:
    return value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""


def _look_inside(value: Any, path: str, seen: Seen, known: dict[int, object]) -> None:
    """Containers, objects, and what functions hold; of types and whatever hides its content, which one it is."""
    # A tuple or a plain dictionary with the same content is the same; a bound method is made anew at each look.
    alike = type(value) in (dict, tuple, types.MethodType)
    seen[path] = type(value) if alike else (type(value), id(value))
    if isinstance(value, Mapping):
        seen[f"{path} keys"] = [_name(key) for key in value]
        for key in list(value):
            _look(value[key], f"{path}[{_name(key)}]", seen, known)
    elif isinstance(value, list | tuple | deque):
        seen[f"{path} length"] = len(value)
        for i, part in enumerate(value):
            _look(part, f"{path}[{i}]", seen, known)
    elif isinstance(value, set | frozenset):
        seen[f"{path} content"] = sorted(str(_name(part)) for part in value)
    elif isinstance(value, types.MethodType):
        seen[f"{path} function"] = id(value.__func__)
        _look(value.__self__, f"{path} of", seen, known)
    elif isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            _look(cell.cell_contents, f"{path} holding {name}", seen, known)
    elif not isinstance(value, type | types.ModuleType | types.BuiltinFunctionType | weakref.ref):
        _look(getattr(value, "__dict__", None), f"{path}.", seen, known)


def _name(key: Any) -> Any:
    return key if isinstance(key, _PLAIN) else id(key)
