"""`striate data pack`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.api.fields_of_data import PACKED
from striate.cli.fields import Flag, takes_fields
from striate.errors import UsageError, one_line, pasted
from striate.training.config_file import option_of
from striate.wording import several

if TYPE_CHECKING:
    from striate.data.pack_data import PackedData


@takes_fields(*PACKED)
def pack(
    data: str | None = None,
    /,
    *,
    fields: dict[str, Any],
    out: Path | None = None,
    shards: Path | None = None,
    shard_size: float | None = None,
    config: Path | None = None,
    json: Flag = False,
) -> int:
    """Decode all images once into a pack file, or copy the image files into WebDataset shards.

    A training with the same options, such as --size, then starts without decoding, and needs no memory for the images
    (--data.store pack). You can interrupt it at any time: the same command continues it. A pack that exists is checked,
    and made anew where it is damaged. Exit code 1 if some of the data could not be read.

    Parameters
    ----------
    data
        Images, clips or sounds in any form that `striate train` takes. Default: mnist5k.
    out
        The folder for the pack, whose name is derived from its content; `striate train` finds it there
        with --data.packs. Default: packs in $STRIATE_CACHE, or else in striate in $XDG_CACHE_HOME or ~/.cache, where
        `striate train` finds it without --data.packs.
    shards
        Instead: a new or empty folder for WebDataset shards, uncompressed tar files with the unchanged pictures and
        their classes. `striate train` takes the folder, or 'DIR/train-{000000..000009}.tar', once
        shards.json is there, which is written last.
    shard_size
        About how many megabytes each shard has. Default: 256.
    config
        A config.yaml, for example of a run: its data.
    json
        Print one JSON document on stdout.
    """
    from striate.api import pack as pack_images
    from striate.cli.output import exit_code, print_note, print_result, results_only

    if shards is not None:
        others = {"--out": out, **{option_of(name): value for name, value in fields.items()}}
        return _write_shards(data, shards, shard_size, config, others, json)
    if shard_size is not None:
        raise UsageError("--shard-size", f"{shard_size:g} without --shards", "--shards, too", "--shards DIR")
    with results_only(json):
        try:
            packed = pack_images(data, out=out, config=config, set=fields, announce=print_note)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted: the same command continues the pack") from None
    for said in (*packed.notes, *packed.findings):
        print_note(str(said))
    findings = [finding.to_json() for finding in packed.findings]
    document = vars(packed) | {"path": str(packed.path), "shape": list(packed.shape), "findings": findings}
    print_result(document, f"{one_line(_words(packed, config, fields))}\n{one_line(str(packed.path))}", json=json)
    return exit_code(packed.findings)


def _write_shards(
    data: str | None,
    shards: Path,
    megabytes: float | None,
    config: Path | None,
    others: Mapping[str, object],
    json: bool,
) -> int:
    from striate.api import pack_shards
    from striate.cli.output import print_note, print_result, results_only

    for option, value in others.items():
        if value is not None:
            expected = "--shards alone: shards hold the picture files unchanged"
            raise UsageError(option, "given with --shards", expected, f"leave out {option}")
    with results_only(json):
        size = 256.0 if megabytes is None else megabytes
        try:
            written = pack_shards(data, shards, megabytes=size, config=config, announce=print_note)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted: the same command continues the shards") from None
    words = f"{several(written.samples, 'sample')} in {several(written.shards, 'shard')}, {written.bytes / 1e6:,.1f} MB"
    words = one_line(f"{words}; used by: striate train {pasted(written.path)}")
    print_result(vars(written) | {"path": str(written.path)}, words, json=json)
    return 0


def _words(packed: PackedData, config: Path | None, fields: Mapping[str, Any]) -> str:
    """What the pack holds, and the command that trains on it."""
    from striate.data.media.every_medium import medium_of
    from striate.data.store.pack import packs_folder

    medium, folder = medium_of(packed.kind), packed.path.parent
    used = {name: value for name, value in fields.items() if name != "data.packs"}
    if "size" in medium.settings:
        height, width = packed.shape[-2:]
        used["data.size"] = height if height == width else f"{height}x{width}"  # a training may choose another one
    if folder != packs_folder(None):
        used["data.packs"] = folder
    begun = "" if config is None else f" --config {pasted(config)}"
    options = "".join(f" {option_of(name)} {pasted(value)}" for name, value in used.items())
    use = f"used by: striate train {pasted(packed.source)}{begun}{options}"
    shape = " × ".join(map(str, packed.shape))
    unit = "bytes" if packed.value_bytes == 1 else f"values of {packed.value_bytes} bytes"
    return f"{several(packed.images, medium.one)} of {shape} {unit}, {packed.bytes / 1e6:,.1f} MB; {use}"
