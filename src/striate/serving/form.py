"""The files of a form (multipart/form-data, RFC 7578) whose bytes are all there."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from striate.errors import UsageError


def files_of(body: bytes, content_type: str, most: int) -> list[tuple[str, bytes]]:
    """The name and the bytes of each file, in order; other fields are left out. Raises UsageError where there is none,
    where there are more than `most` fields, and where it is no such form."""
    reader = _Reader(most)
    try:
        if not (boundary := parse_options_header(content_type)[1].get(b"boundary")):
            raise FormParserError("its content type has no boundary")
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.begin,
                "on_header_field": reader.field,
                "on_header_value": reader.value,
                "on_header_end": reader.header,
                "on_part_data": reader.data,
                "on_part_end": reader.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise UsageError(
            "the request", f"no form: {error}", "a whole one", "curl -F a=@one.jpg -F b=@two.jpg"
        ) from None
    if not reader.files:
        raise UsageError("the request", "no file", "files of pictures", "curl -F a=@one.jpg -F b=@two.jpg")
    return reader.files


class _Reader:
    """What the parser calls with pieces of the body."""

    def __init__(self, most: int) -> None:
        self._most, self._begun = most, 0
        self.files: list[tuple[str, bytes]] = []
        self._name: str | None = None
        self._field, self._value, self._pieces = b"", b"", list[bytes]()

    def begin(self) -> None:
        if self._begun == self._most:
            raise UsageError("the request", f"more than {self._most} fields", f"up to {self._most}", "send fewer")
        self._begun += 1
        self._name, self._pieces = None, []

    def field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header(self) -> None:
        if self._field.lower() == b"content-disposition":
            name = parse_options_header(self._value)[1].get(b"filename")
            self._name = None if name is None else name.decode("utf-8", "replace") or "picture"
        self._field, self._value = b"", b""

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._name is not None:
            self._pieces.append(data[start:end])

    def end(self) -> None:
        if self._name is not None:
            self.files.append((self._name, b"".join(self._pieces)))
