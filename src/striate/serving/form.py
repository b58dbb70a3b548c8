"""Parse the files of a complete form (multipart/form-data, RFC 7578)."""

from __future__ import annotations

from python_multipart.multipart import parse_options_header

from striate.errors import UsageError


def files_of(body: bytes, content_type: str, most: int) -> list[tuple[str, bytes]]:
    """The name and the bytes of each file, in order; other fields are left out. Raises UsageError for a form without
    files, with more than `most` fields, or that is not complete.

    The form is split at its boundaries; starlette's parsers of streams take four times as long.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    before_first, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary, most + 2) if boundary else [body]
    if len(parts) > most + 1:
        raise UsageError("the request", f"more than {most} fields", f"at most {most} fields", "send fewer")
    if before_first.strip() or not parts or not parts.pop().startswith(b"--"):
        raise UsageError("the request", "an incomplete form", "multipart/form-data", "curl -F a=@one.jpg -F b=@two.jpg")
    files = [(name, data) for name, data in map(_part, parts) if name is not None]
    if not files:
        raise UsageError("the request", "no file", "files of pictures", "curl -F a=@one.jpg -F b=@two.jpg")
    return files


def _part(part: bytes) -> tuple[str | None, bytes]:
    """The name of the file (None for a part that is not a file), and its bytes."""
    head, _, data = part.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        field, _, value = line.partition(b":")
        if field.strip().lower() == b"content-disposition":
            name = parse_options_header(value)[1].get(b"filename")
            return None if name is None else name.decode("utf-8", "replace") or "picture", data
    return None, data
