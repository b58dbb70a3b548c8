"""A data set decoded once and kept in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from striate.api.news import Announce
from striate.data.pack_data import PackedData, pack_data
from striate.errors import DataError, UsageError
from striate.tasks.registry import annotation_for
from striate.training.request import ConfigSource, merge_request, read_config

_MATTERS = ("source", "size", "channels", "fit", "layout", "max_pixels", "reduced_decoding", "packs")
_FIELDS = (*(f"data.{name}" for name in _MATTERS), "task.name")


def pack(
    data: str | Path | None = None,
    *,
    size: int | tuple[int, int] | str | None = None,
    out: str | Path | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
    announce: Announce | None = None,
) -> PackedData:
    """Decode all images of a data set once and keep them in a pack, which a training with the same `size` starts from.

    A pack that is there is compared with its digests, and made anew where it is damaged; an interrupted one is gone on
    with. `out`: the folder of packs, `data.packs` of a training; the cache folder by default. Data, `config` and `set`
    are as in `train`; of the fields only those that change what is decoded may be set. `announce` is told how far it
    is. Raises UsageError for other fields, DataError for what cannot be packed, ConfigError.
    """
    fields = dict(set or {})
    _refuse(fields, out)
    source = None if data is None else str(data)
    merged = merge_request(read_config(config), data=source, size=size, fields=fields)
    wanted = replace(merged.data, packs=merged.data.packs if out is None else str(out))
    try:
        return pack_data(wanted, annotation=annotation_for(merged.task), announce=announce or (lambda _: None))
    except DataError as error:
        if not error.remedy.startswith("--data.packs FOLDER"):
            raise
        # What a training may do instead, decode as it goes, is no pack.
        raise DataError(error.where, error.got, error.expected, "--out FOLDER on another disk") from None


def _refuse(fields: Mapping[str, Any], out: str | Path | None) -> None:
    foreign = [name for name in fields if name not in _FIELDS]
    if foreign:
        raise UsageError(
            f"--{foreign[0]}",
            "a field that changes nothing in a pack",
            f"{', '.join(_FIELDS[1:-1])} or {_FIELDS[-1]}",
            f"leave out --{foreign[0]}",
        )
    if out is not None and fields.get("data.packs") is not None:
        raise UsageError(
            "--out", f"{out}, and --data.packs {fields['data.packs']}", "one folder", "leave out --data.packs"
        )
