"""`striate data pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from striate.errors import UsageError


def pack(
    data: str | None = None,
    /,
    *,
    size: str | None = None,
    out: Path | None = None,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Decode all images of a data set once and keep them in a file.

    A training with the same --size then starts without decoding, and needs no memory for the images (--data.store
    pack). Can be interrupted at any time: called again, it goes on. A pack that is there is checked, and made anew
    where it is damaged. Exit code 1 if some of the data could not be read.

    Parameters
    ----------
    data
        Images in any form that `striate train` takes. Default: mnist5k.
    size
        Height and width of the inputs in pixels: 96, or 96x128.
    out
        The folder that the pack is put into, under a name that follows from its content; `striate train` finds it there
        with --data.packs. Default: packs in $STRIATE_CACHE, or else in ~/.cache/striate, where it is found by itself.
    config
        A config.yaml, for example of a run: its data.
    set
        A field of the configuration, also as --data.fit pad: data.* and task.name.
    json
        Print one JSON document on stdout.
    """
    from dataclasses import replace

    from striate.cli.fields import chosen_fields
    from striate.cli.output import print_json, print_note, print_text, results_only
    from striate.data.pack_data import pack_data
    from striate.training.request import merge_request, read_config

    fields = chosen_fields({}, set or [])
    _refuse(list(fields))
    merged = merge_request(read_config(config), data=data, size=size, fields=fields)
    wanted = replace(merged.data, packs=merged.data.packs if out is None else str(out))
    with results_only(json):
        packed = pack_data(wanted, task=merged.task.name, announce=print_note)
    for said in (*packed.notes, *packed.findings):
        print_note(str(said))
    if json:
        findings = [finding.to_json() for finding in packed.findings]
        print_json(vars(packed) | {"path": str(packed.path), "shape": list(packed.shape), "findings": findings})
    else:
        print_text(f"{_words(packed.images, packed.shape, packed.bytes, wanted.packs)}\n{packed.path}")
    return 1 if any(finding.severity == "error" for finding in packed.findings) else 0


def _words(images: int, shape: tuple[int, ...], size: int, folder: str | None) -> str:
    from striate.errors import pasted

    _, height, width = shape
    where = f" --data.packs {pasted(folder)}" if folder else ""
    use = f"used by: striate train DATA --size {height}x{width}{where}"
    return f"{images:,} images of {' × '.join(map(str, shape))} bytes, {size / 1e6:,.1f} MB; {use}"


def _refuse(fields: list[str]) -> None:
    foreign = [name for name in fields if not name.startswith("data.") and name != "task.name"]
    foreign += [name for name in fields if name in ("data.store", "data.fingerprint")]
    if foreign:
        raise UsageError(
            f"--{foreign[0]}",
            "a field that changes nothing in a pack",
            "fields of data.* but store and fingerprint, and task.name",
            f"leave out --{foreign[0]}",
        )
