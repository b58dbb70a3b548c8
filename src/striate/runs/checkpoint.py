"""The checkpoint file: a dict of plain values and tensors, loadable with `weights_only=True`."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from striate.errors import RunError
from striate.runs.files import write_atomic

FORMAT = 1
_ZIP = b"PK\x03\x04"  # torch's checkpoints are zip archives


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write atomically: after a crash the file is the old one or the new one. Raises RunError on a full disk."""

    def write(temporary: Path) -> None:
        try:
            torch.save({"format": FORMAT, **content}, temporary)
        except RuntimeError as error:
            # torch's zip writer reports a failed write without the errno; writing one byte finds it out.
            with temporary.open("ab") as file:
                file.write(b"\0" * 4096)
            raise OSError(str(error)) from error

    write_atomic(path, write)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without executing anything from it. Raises RunError when it is none of ours."""
    remedy = "use last.pt or best.pt of a run directory"
    try:
        with path.open("rb") as file:
            beginning = file.read(12)
    except OSError as error:
        reason = f"cannot read: {error.strerror or error}"
        raise RunError(str(path), reason, "a checkpoint of striate", remedy) from None
    if not beginning.startswith(_ZIP):
        reason = f"no checkpoint: the file begins with {beginning!r}" if beginning else "an empty file"
        raise RunError(str(path), reason, "a checkpoint of striate", remedy)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on foreign pickles that are refused below anyway
            content = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        reason = f"cannot read: {error.strerror or error}"
        raise RunError(str(path), reason, "a checkpoint of striate", remedy) from None
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise RunError(str(path), f"damaged, or no checkpoint: {first}", "a checkpoint of striate", remedy) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or "model" not in content:
        raise RunError(str(path), "a file that no run of striate wrote", "a checkpoint of a run", remedy)
    return content
