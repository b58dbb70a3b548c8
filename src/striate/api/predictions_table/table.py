"""Lines of predictions as Arrow tables: a column for each field, whatever the task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from striate.errors import UsageError, missing_extra

KEY = b"striate"
"""Key of the metadata that say what the predictions of a file depend on."""
Table = Any
"""A pyarrow.Table; the package has no type annotations."""


def arrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet. Raises UsageError, which names the extra, where they are missing."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_extra("--out", "pyarrow", "parquet", UsageError) from error
    return pa, pq


def as_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each line; fields that a line lacks are null, and the most probable classes are a list of structs."""
    pa, _ = arrow()
    names = dict.fromkeys(name for line in lines for name in line)
    return pa.Table.from_pylist([{name: _value(line.get(name)) for name in names} for line in lines])


def _value(value: Any) -> Any:
    """The value in a form that a column can hold: Parquet has no empty structs, and each list has one type."""
    if isinstance(value, Mapping):
        return {str(name): _value(part) for name, part in value.items()} or None
    if not isinstance(value, list | tuple):
        return value
    if value and all(isinstance(part, list | tuple) and len(part) == 2 and isinstance(part[0], str) for part in value):
        return [{"label": label, "probability": probability} for label, probability in value]
    return [_value(part) for part in value]


def common_schema(schemas: Iterable[Any], about: bytes) -> Any:
    """The schema with the columns of all `schemas`, each of the widest type among them, and `about` as metadata."""
    pa, _ = arrow()
    return pa.unify_schemas(list(schemas), promote_options="permissive").with_metadata({KEY: about})


def fitted(table: Table, schema: Any) -> Table:
    """The same rows with the columns of a `common_schema`."""
    pa, _ = arrow()
    return pa.concat_tables([schema.empty_table(), table], promote_options="permissive").cast(schema)
