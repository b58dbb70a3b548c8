"""Which fields of the configuration matter to functions on data alone; free of torch."""

from __future__ import annotations

from collections.abc import Mapping

from striate.errors import UsageError
from striate.training.config_file import option_of

CHECKED = (
    *(
        f"data.{name}"
        for name in ("size", "channels", "fit", "layout", "names", "val_fraction", "test_fraction", "split_seed")
    ),
    *("data.view", "data.frames", "data.class_level", "data.group", "data.targets", "data.max_pixels", "task.name"),
    *("data.ignore", "data.pages", "data.splits"),
)
"""Fields that change a check of the data: what is read, and how it is split."""
PACKED = (
    *(
        f"data.{name}"
        for name in ("size", "channels", "fit", "layout", "names", "max_pixels", "reduced_decoding", "packs")
    ),
    *("data.pages", "data.rate", "data.seconds", "data.view", "data.frames"),
    *("data.class_level", "data.targets", "task.name"),
)
"""Fields that change a pack: what is decoded."""
MEASURED = ("data.names",)
"""Fields that other data for a trained network may need in addition to those of the run."""
SHOWN = ("data.", "augment.", "task.name", "seed")
"""Fields that change a picture of the data; a name that ends with a dot is a section."""


def refuse_unused(fields: Mapping[str, object], used: tuple[str, ...], what: str) -> None:
    """Raise UsageError for the first field that has no effect on `what`, since it is not among `used`."""
    unused = [name for name in fields if name != "data.source" and not name.startswith(used)]
    if unused:
        listed = [f"{name}*" if name.endswith(".") else name for name in used]
        # These verbs have another option --labels, or none.
        option = "--data.labels" if unused[0] == "data.labels" else option_of(unused[0])
        raise UsageError(
            option,
            f"a field that has no effect on {what}",
            " or ".join(part for part in (", ".join(listed[:-1]), listed[-1]) if part),
            f"leave out {option}",
        )
