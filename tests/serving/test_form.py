"""A form is cut at its boundaries, whatever the bytes of its files are."""

from __future__ import annotations

import pytest
from httpx import Request

from striate.errors import UsageError
from striate.serving.form import files_of

KIND = "multipart/form-data; boundary=edge"


def test_files_are_those_that_were_sent() -> None:
    sent = [("one.jpg", b"\r\n--edg\r\n\r\n-edge"), ('ä; "two".png', b""), ("c.png", bytes(range(256)))]
    files = [("a", (name, data, "image/jpeg")) for name, data in sent]
    body = Request("POST", "http://a", data={"note": "no file"}, files=files, headers={"content-type": KIND}).read()
    found = files_of(body, KIND, 4)
    assert [data for _, data in found] == [data for _, data in sent]
    assert [found[0][0], found[2][0]] == ["one.jpg", "c.png"]
    with pytest.raises(UsageError, match="more than 3 fields"):
        files_of(body, KIND, 3)
    with pytest.raises(UsageError, match="an incomplete form"):
        files_of(body[:-4], KIND, 4)


@pytest.mark.parametrize(
    "body", [b"", b"edge", b"--edge\r\n", b"stray\r\n--edge--", b"--edge--", b"--edge\r\n\r\n\r\n--edge--"]
)
def test_what_is_no_form_with_files_is_refused(body: bytes) -> None:
    with pytest.raises(UsageError):
        files_of(body, KIND, 4)
    with pytest.raises(UsageError, match="an incomplete form"):
        files_of(body, "multipart/form-data", 4)
