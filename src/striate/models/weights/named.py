"""Weights by their public names: repositories of the Hugging Face hub, names of timm and torchvision.

`owner/name` and `owner/name@revision` are repositories, `resnet18.tv_in1k` is `timm/resnet18.tv_in1k`, and
`ResNet18_Weights.IMAGENET1K_V1` is torchvision's file. Files are stored in the cache of that library.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from striate.errors import ModelError, one_line
from striate.models.layer_strings.arguments import nearest_few
from striate.models.registry import MODELS
from striate.models.weights.saved import Origin
from striate.runs.plain_files import is_there

TENSORS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
USUAL = (
    *("ResNet18_Weights.IMAGENET1K_V1", "resnet18.tv_in1k", "resnet18.a1_in1k"),
    *("ResNet34_Weights.IMAGENET1K_V1", "resnet34.tv_in1k", "resnet34.a1_in1k"),
    *("ResNet50_Weights.IMAGENET1K_V2", "ResNet50_Weights.IMAGENET1K_V1", "resnet50.a1_in1k", "resnet50.tv_in1k"),
)
"""ImageNet weights that `auto` chooses for few photographs if they are in a cache, the cheapest network first."""

_TORCHVISION = "https://download.pytorch.org/models/"
_IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_TENSORFLOW = (127.5,) * 3, (127.5,) * 3
_LEARNED_THERE = ("googlenet", "inception_v3")
_LICENSE_OF_TORCHVISION = "bsd-3-clause"
_REPOSITORY = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")
_OF_TIMM = re.compile(r"[a-z]\w*\.\w*in(1|12|21|22)k\w*(?:@[\w./-]+)?")
_LONGEST = 250  # letters of owner, name and revision
_FILES = (".pt", ".pth", ".safetensors", ".bin", ".ckpt", ".onnx", ".pt2", ".xml", ".yaml", ".h5")


@dataclass(frozen=True)
class Named:
    """Weights with a public name."""

    text: str
    """The full name: with `timm/` for weights of timm, and with the version in place of `DEFAULT`."""
    repository: str = ""
    """Their repository on the Hugging Face hub; empty for weights of torchvision."""
    revision: str | None = None
    """Revision of the repository; None for its default branch."""
    network: str = ""
    """The network that weights of torchvision are for; empty for a repository."""
    file: str = ""
    """Their file at torchvision; empty for a repository."""

    @property
    def address(self) -> str:
        """The web address."""
        return _TORCHVISION + self.file if self.file else f"https://huggingface.co/{self.repository}"

    @property
    def cached(self) -> bool:
        """Whether the weights are already on this machine."""
        if self.file:
            return _torch_cache(self.file).is_file()
        if find_spec("huggingface_hub") is None:
            return False
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(self.repository, TENSORS, revision=self.revision), str)


def named_weights(text: str) -> Named | None:
    """The weights that the text names; None where it can only be a path. Raises ModelError for weights that torchvision
    does not have."""
    text = text.strip()
    if (found := _of_torchvision(text)) is not None:
        return found
    if text.endswith(_FILES) or len(text) > _LONGEST or (text and is_there(Path(text))):
        return None
    name = f"timm/{text}" if _OF_TIMM.fullmatch(text) else text
    matched = _REPOSITORY.fullmatch(name)
    if matched is None or (name == text and Path(text).parent.is_dir()):  # runs/flowers, mistyped
        return None
    return Named(name, matched[1], matched[2])


def fetch(named: Named) -> tuple[Path, Origin]:
    """The file of torchvision or the folder of a repository, on this machine, downloaded if needed, and its origin.
    Raises ModelError where the weights cannot be downloaded or are damaged."""
    if named.file:
        mean, std = _TENSORFLOW if named.network in _LEARNED_THERE else _IMAGENET
        height, width = MODELS[named.network].input_shape[1:]
        return _from_torchvision(named), Origin(
            named.text, named.network, mean, std, (height, width), _LICENSE_OF_TORCHVISION
        )
    folder = _from_hub(named)
    file = folder / TENSORS
    if not file.is_file():
        got = f"a repository without {TENSORS}"
        raise _refused(named, got, f"tensors as {TENSORS}, which cannot run code", "use another repository")
    sum_of_file = file.resolve().name  # blobs are named by their checksum, large ones by their SHA-256
    if re.fullmatch(r"[0-9a-f]{64}", sum_of_file) and _sha256(file) != sum_of_file:
        raise _damaged(named, file.resolve())
    return folder, describe_folder(folder, f"{named.repository}@{folder.name}")


def describe_folder(folder: Path, name: str = "") -> Origin:
    """The origin of weights from config.json and README.md of a repository; all values are checked."""
    config, card = read_config(folder), _front_matter(folder)
    published = config.get("pretrained_cfg", config)
    published = published if isinstance(published, Mapping) else {}
    architecture = config.get("architecture")
    network = architecture if isinstance(architecture, str) and re.fullmatch(r"[\w-]+", architecture) else ""
    if network and (network not in MODELS or not MODELS[network].weights):
        network = f"timm/{network}"
    mean, std = (_three(published.get(key)) for key in ("mean", "std"))
    size = published.get("input_size")
    fits = isinstance(size, list) and len(size) == 3 and all(type(side) is int and 0 < side < 10_000 for side in size)
    stated = card.get("license") if card.get("license") != "other" else card.get("license_name")
    license = stated or published.get("license") or config.get("weights_license") or ""
    known = bool(mean and std and all(one > 0 for one in std))
    return Origin(
        name,
        network,
        mean if known else (),
        std if known else (),
        (size[1], size[2]) if fits else None,  # type: ignore[index]
        one_line(license)[:80] if isinstance(license, str) else "",
    )


def is_hub_folder(folder: Path) -> bool:
    """Whether a folder has the form of a model hub: a file of tensors, and no run."""
    return is_there(folder / TENSORS) and not is_there(folder / "config.yaml")


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json in a folder; empty where it is missing or cannot be read."""
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def about_license(origin: Origin) -> str:
    """A sentence on the license of the weights; empty for a local file, whose license is unknown."""
    if not origin.license:
        return "the license of these weights is unknown: ask before you share the network" if origin.name else ""
    limits = re.search(r"(^|-)nc(-|$)|non-?commercial", origin.license.lower())
    return f"the license of these weights is {origin.license}" + (", which forbids commercial use" if limits else "")


def _of_torchvision(text: str) -> Named | None:
    name, found, version = text.partition("_Weights.")
    if not found:
        return None
    network = name.lower()
    files = MODELS[network].weight_files if network in MODELS else {}
    version = list(files)[-1] if files and version == "DEFAULT" else version
    if version in files:
        return Named(f"{name}_Weights.{version}", network=network, file=files[version])
    close = [network] if files else nearest_few(network, [name for name, info in MODELS.items() if info.weight_files])
    known = [f"{name if files else close[0]}_Weights.{one}" for near in close[:1] for one in MODELS[near].weight_files]
    raise ModelError(
        f"weights {text[:80]}",
        "a name that torchvision does not have for a network of striate",
        f"one of {', '.join(known)}"
        if known
        else "a name of weights in torchvision, such as ResNet18_Weights.IMAGENET1K_V1",
        f"--weights {known[-1]}" if known else "striate models NAME shows whose weights fit",
    )


def _torch_cache(file: str) -> Path:
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints" / file


def _from_torchvision(named: Named) -> Path:
    """The file in torch's cache, where torchvision keeps it too."""
    from torch import hub

    place, digits = _torch_cache(named.file), named.file.rpartition("-")[2].partition(".")[0]
    if place.is_file():
        if not _sha256(place).startswith(digits):
            raise _damaged(named, place)
        return place
    if _offline():
        raise _not_here(named, "HF_HUB_OFFLINE is set")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(named.address, str(place), digits)
    except (OSError, RuntimeError) as error:  # a wrong checksum is a RuntimeError
        raise _not_here(named, _reason(error)) from None
    return place


def _from_hub(named: Named) -> Path:
    """The snapshot of a repository in the hub's cache, whose name is its commit."""
    if find_spec("huggingface_hub") is None:
        remedy = f"pip install 'striate[hub]'; or {_by_hand(named)}"
        raise _refused(named, "huggingface-hub: not installed", "the extra `hub`", remedy)
    from huggingface_hub import errors, snapshot_download, utils

    try:
        # The library reads the address of its server once, when it is imported.
        server, files = os.environ.get("HF_ENDPOINT"), [TENSORS, CONFIG, CARD]
        if not sys.stderr.isatty():
            utils.disable_progress_bars()  # type: ignore[attr-defined]
        return Path(snapshot_download(named.repository, revision=named.revision, allow_patterns=files, endpoint=server))
    except errors.RevisionNotFoundError:
        raise _refused(named, f"no revision {named.revision}", "a branch, tag or commit", "leave out @…") from None
    except errors.GatedRepoError:
        got = "a repository whose conditions you have not accepted"
        raise _refused(
            named, got, "access to the repository", f"accept them at {named.address}, then: hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        expected = "a local file or run, a public repository, or a private one with your token"
        remedy = f"check the name at {named.address}; hf auth login"
        raise _refused(named, "neither a local file nor a visible repository of the hub", expected, remedy) from None
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError, RuntimeError) as error:
        raise _not_here(named, "HF_HUB_OFFLINE is set" if _offline() else _reason(error)) from None


def _by_hand(named: Named) -> str:
    if named.file:
        return f"put {named.address} at {_torch_cache(named.file)}"
    folder = named.repository.partition("/")[2]
    base = f"{named.address}/resolve/{named.revision or 'main'}"
    return f"put {base}/{TENSORS} and {CONFIG} from there into a folder {folder}, then: --weights ./{folder}"


def _not_here(named: Named, why: str) -> ModelError:
    expected = "weights in the cache, or a connection to download them"
    return _refused(named, f"not on this machine, and not downloadable: {why}", expected, _by_hand(named))


def _damaged(named: Named, place: Path) -> ModelError:
    got = f"a damaged file with another SHA-256: {place}"
    return _refused(named, got, "the file as published", f"delete {place}, and run the command again")


def _refused(named: Named, got: str, expected: str, remedy: str) -> ModelError:
    return ModelError(f"weights {named.text}", got, expected, remedy)


def _reason(error: Exception) -> str:
    return one_line(str(error))[:160] or type(error).__name__


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _three(values: Any) -> tuple[float, ...]:
    """Three numbers for red, green and blue, scaled from 0 to 1 to 0 to 255; empty for anything else."""
    numbers = values if isinstance(values, list) and len(values) == 3 else ()
    return tuple(255.0 * one for one in numbers if isinstance(one, int | float) and math.isfinite(one))


def _front_matter(folder: Path) -> dict[str, Any]:
    try:
        text = (folder / CARD).read_text(encoding="utf-8")[:20_000]
        found = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else None
    except (OSError, ValueError, IndexError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
