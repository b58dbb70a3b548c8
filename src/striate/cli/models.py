"""`striate models`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from striate.cli.model_tables import Form


def models(
    name: str | None = None,
    /,
    *,
    history: Annotated[bool, Parameter(negative=())] = False,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List the networks that have a name, with what they cost and what was published of their errors.

    Parameters
    ----------
    name
        Show one network in full: how it is written, its source, and every published error. With arguments, as in
        "alexnet-2012(groups=1)", also what that form costs.
    history
        Show ImageNet's progress instead: the best answers of each year's challenge, and a human's.
    out
        With --history, draw it into this .png or .svg too. Nothing is written otherwise.
    force
        Overwrite the picture if it exists.
    json
        Print one JSON document on stdout.
    """
    from striate.errors import UsageError

    if history:
        if name is not None:
            got = f"--history and the name {name[:80]}"
            raise UsageError("striate models", got, "one of them", "striate models --history")
        return _history(out, force, json)
    if out is not None or force:
        given = "--out" if out is not None else "--force"
        remedy = f"striate models --history{'' if out is None else ' --out imagenet.png'}"
        raise UsageError(f"striate models {given}", "a list, which is not drawn", "--history", remedy)
    return _one(name, json) if name is not None else _all(json)


def _all(as_json: bool) -> int:
    from striate.cli.model_tables import model_json, model_list
    from striate.cli.output import print_json, print_text, stdout
    from striate.models.registry import GROUPS

    if as_json:
        print_json([model_json(info, group) for group, entries in GROUPS.items() for info in entries])
        return 0
    table, notes = model_list(GROUPS)
    stdout().print(table)
    print_text(notes)
    return 0


def _one(name: str, as_json: bool) -> int:
    from dataclasses import asdict

    from striate.cli.model_tables import model_entry, model_json
    from striate.cli.output import print_json, print_text
    from striate.models.registry import GROUPS, describe_model

    (info,) = describe_model(name)
    form = None if name.strip() == info.name else _form(name.strip())
    if as_json:
        group = next(group for group, entries in GROUPS.items() if info in entries)
        print_json(model_json(info, group) | ({} if form is None else {"form": asdict(form)}))
        return 0
    print_text(model_entry(info, form))
    return 0


def _form(name: str) -> Form:
    """What a network costs with these arguments."""
    from striate.api.summarizing import summary
    from striate.cli.model_tables import Form

    ledger = summary(name).ledger
    return Form(name, ledger.params, ledger.macs)


def _history(out: Path | None, force: bool, as_json: bool) -> int:
    from dataclasses import asdict

    from striate.cli.model_tables import history_table
    from striate.cli.output import print_json, print_note, print_text, stdout
    from striate.models.catalog.history import HISTORY

    if out is not None:
        # Drawing loads matplotlib: refused before that.
        from striate.visualize.picture_path import refuse_picture_path

        refuse_picture_path(out, force=force, endings=(".png", ".svg"))
        from striate.visualize.imagenet_history import save_imagenet_history

        print_note(f"drawn into {save_imagenet_history(out)}")
    if as_json:
        print_json([asdict(result) for result in HISTORY])
        return 0
    table, notes = history_table(HISTORY)
    stdout().print(table)
    print_text(notes)
    return 0
