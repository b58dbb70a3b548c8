"""A data set as shards."""

from __future__ import annotations

from pathlib import Path

from striate.api.news import Announce
from striate.data.write_shards import WrittenShards, write_shards
from striate.errors import UsageError
from striate.training.request import ConfigSource, merge_request, read_config


def pack_shards(
    data: str | Path | None,
    shards: str | Path,
    *,
    megabytes: float = 256.0,
    config: ConfigSource = None,
    announce: Announce | None = None,
) -> WrittenShards:
    """Write the pictures of a data set as they are into WebDataset shards of about `megabytes` in the folder `shards`,
    new or empty, which `striate train` and other readers take. Raises UsageError, DataError."""
    if not megabytes > 0:
        raise UsageError("--shard-size", f"{megabytes:g}", "megabytes above 0", "--shard-size 256")
    source = None if data is None else str(data)
    merged = merge_request(read_config(config), data=source, fields={})
    return write_shards(merged.data, Path(shards), megabytes, announce=announce or (lambda _: None))
