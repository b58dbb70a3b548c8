"""A data set without a network: checked before training, decoded once into a pack, or written as shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from striate.api.announcing import Announce
from striate.api.fields_of_data import CHECKED, PACKED, refuse_unused
from striate.api.keywords import known_keywords
from striate.data.audit.check import check_evidence
from striate.data.audit.data_check import DataCheck, grave_first
from striate.data.audit.evidence import gather_evidence
from striate.data.audit.quarantine import manifest_text, refuse_quarantine, usual_quarantine
from striate.data.convert_boxes import BoxLayout, ConvertedBoxes, convert_boxes
from striate.data.pack_data import PackedData, pack_data
from striate.data.sources.list_source import list_source
from striate.data.sources.objects import Data, given_data
from striate.data.write_shards import WrittenShards, index_shards, write_shards
from striate.errors import DataError, RunError, UsageError, pasted
from striate.runs.files import write_text
from striate.tasks.registry import annotation_for
from striate.training.config_file import get_field, option_of
from striate.training.request import ConfigSource, merge_request, read_config
from striate.wording import type_of


@known_keywords
def check_data(
    data: Data = None,
    *,
    size: int | tuple[int, int] | str | None = None,
    labels: bool = False,
    quarantine: str | Path | None = None,
    sheet: str | Path | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
    announce: Announce | None = None,
) -> DataCheck:
    """Check every sample of a data set for what would make a training wrong, or impossible.

    `size` is the size that will be trained with. `labels` also finds labels that are likely wrong, which takes longer.
    `quarantine` writes a manifest without the samples that should not be trained on, `sheet` a picture (PNG) of the
    worst; neither overwrites a file, and nothing is ever deleted. Data, `config` and `set` are as in `train`; of the
    fields, those of `data.` that change what is read or how it is split, and task.name. `announce` is given progress.

    Raises UsageError, ConfigError, and DataError where the data cannot be listed at all.
    """
    fields = dict(set or {})
    refuse_unused(fields, CHECKED, "a check of the data")
    with given_data(data, announce) as source:
        return _check_source(source, size, labels, quarantine, sheet, config, fields, announce)


def _check_source(
    source: str | None,
    size: int | tuple[int, int] | str | None,
    labels: bool,
    quarantine: str | Path | None,
    sheet: str | Path | None,
    config: ConfigSource,
    fields: dict[str, Any],
    announce: Announce | None,
) -> DataCheck:
    merged = merge_request(read_config(config), data=source, size=size, fields=fields)
    listing = list_source(merged.data, annotation_for(merged.task), announce)
    if quarantine is not None:
        refuse_quarantine(listing, Path(quarantine))
    if sheet is not None:
        _refuse_sheet(listing.kind, Path(sheet))
    target = usual_quarantine(listing)
    given = {name: get_field(merged, name) for name in fields if name != "data.source"}
    options = ((option_of(name), _typed(value)) for name, value in given.items())
    again = ("data", "check", listing.source, *chain.from_iterable(options))
    command = () if target is None else (*again, "--quarantine", str(target))
    evidence = gather_evidence(listing, merged.data, command, announce)
    check = check_evidence(evidence)
    if not labels:
        check = replace(check, label_check=(*again, "--labels"))
    else:
        check = _with_label_errors(check, merged.seed, announce)
    if sheet is not None:
        from striate.visualize.check_sheet import draw_sheet

        check = replace(check, sheet=draw_sheet(check, Path(sheet)))
        if check.sheet is None and announce is not None:
            announce(f"{sheet} is not written: there are no samples to draw")
    if quarantine is not None:
        check = replace(check, quarantine=_write_quarantine(check, Path(quarantine)))
    return check


def _typed(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _refuse_sheet(kind: str, sheet: Path) -> None:
    from striate.visualize.check_sheet import refuse_sheet
    from striate.visualize.picture_path import refuse_picture_path

    refuse_sheet(kind)
    if sheet.is_file():
        other = sheet.with_stem(f"{sheet.stem}-2")
        raise UsageError(
            str(sheet), "it exists already", "a new file: nothing is overwritten", f"--sheet {pasted(other)}"
        )
    refuse_picture_path(sheet, option="--sheet")


def _with_label_errors(check: DataCheck, seed: int, announce: Announce | None) -> DataCheck:
    from striate.evaluation.label_errors import find_label_errors

    doubtful = find_label_errors(check.evidence, seed, announce)
    return replace(check, sample_findings=grave_first([*check.sample_findings, *filter(None, (doubtful,))]))


def _write_quarantine(check: DataCheck, file: Path) -> Path:
    text = manifest_text(check, file)
    try:
        write_text(file, text)
    except RunError as error:
        remedy = "name a file in a writable folder, the folder of the data or one above"
        raise UsageError("--quarantine", f"{file} {error.got}", "a writable file", remedy) from None
    return file


def _named(data: object, verb: str) -> str | None:
    """The name or path of data. Raises UsageError for data in memory."""
    if data is None or isinstance(data, str | Path):
        return None if data is None else str(data)
    remedy = "use striate.train(data), which takes them directly"
    raise UsageError(verb, f"{type_of(data)} in memory", "a name, a folder or a file", remedy)


def pack(
    data: str | Path | None = None,
    *,
    size: int | tuple[int, int] | str | None = None,
    out: str | Path | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
    announce: Announce | None = None,
) -> PackedData:
    """Decode all images of a data set once into a pack, from which a training with the same `size` starts.

    An existing pack is compared with its digests, and made anew where it is damaged; an interrupted one is continued.
    `out`: the folder of packs, `data.packs` of a training; the cache folder by default. Data, `config` and `set` are as
    in `train`; of the fields only those that change what is decoded may be set. `announce` is given progress. Raises
    UsageError for other fields, DataError for data that cannot be packed, ConfigError.
    """
    fields = dict(set or {})
    refuse_unused(fields, PACKED, "a pack")
    if out is not None and fields.get("data.packs") is not None:
        got = f"{out} and --data.packs {fields['data.packs']}"
        raise UsageError("--out", got, "one folder", "leave out --data.packs")
    source = _named(data, "pack")
    merged = merge_request(read_config(config), data=source, size=size, fields=fields)
    wanted = replace(merged.data, packs=merged.data.packs if out is None else str(out))
    try:
        return pack_data(wanted, annotation=annotation_for(merged.task), announce=announce or (lambda _: None))
    except DataError as error:
        if not error.remedy.startswith("--data.packs FOLDER"):
            raise
        # The remedy of a training, which may decode during each epoch instead, makes no pack.
        raise DataError(error.where, error.got, error.expected, "--out FOLDER on another disk") from None


def pack_shards(
    data: str | Path | None,
    shards: str | Path,
    *,
    megabytes: float = 256.0,
    config: ConfigSource = None,
    announce: Announce | None = None,
) -> WrittenShards:
    """Write the pictures of a data set unchanged into WebDataset shards of about `megabytes` in the new or empty folder
    `shards`, which `striate train` and other readers take. After an interruption the same call continues. Raises
    UsageError, DataError."""
    if not megabytes > 0:
        raise UsageError("--shard-size", f"{megabytes:g}", "megabytes above 0", "--shard-size 256")
    source = _named(data, "pack_shards")
    merged = merge_request(read_config(config), data=source, fields={})
    return write_shards(merged.data, Path(shards), megabytes, announce=announce or (lambda _: None))


def index_data(shards: str | Path, *, announce: Announce | None = None) -> WrittenShards:
    """Read all samples of the shards in a folder, and write the index that `striate train` needs beside them: for
    shards of other programs, or of a striate that wrote no index. Raises DataError, also for shards of striate that are
    incomplete."""
    return index_shards(Path(shards), announce=announce or (lambda _: None))


def convert_data(
    data: str | Path, to: BoxLayout, out: str | Path, *, config: ConfigSource = None, announce: Announce | None = None
) -> ConvertedBoxes:
    """Write a data set of boxes into the folder `out` as `coco`, `voc`, `yolo` or `csv`: images byte for byte, and all
    that both layouts can hold; `lost` lists the rest. Raises DataError, UsageError."""
    fields = merge_request(read_config(config), data=str(data), fields={}).data
    return convert_boxes(fields, to, Path(out), announce=announce or (lambda _: None))
