"""Sources on the network: nothing is downloaded; the error has the commands that do it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from striate.errors import DataError, pasted


class _Place(NamedTuple):
    """A pattern of sources, what they are, and the command that downloads one.

    In the command, `{whole}` is the source, `{name}` the group `name` of the pattern, and `{here}` the file or folder
    that it creates.
    """

    pattern: str
    what: str
    command: str


_PLACES = (
    _Place(
        r"(?:hf|huggingface)://(?:datasets/)?(?P<name>[^/]+/[^/@]+).*|https?://(?:www\.)?huggingface\.co/datasets/"
        r"(?P<page>[^/]+/[^/?#]+)/?",
        "a data set of the Hugging Face hub",
        "hf download {name} --repo-type dataset --local-dir {here}",
    ),
    _Place(
        r"kaggle:(?://)?(?:datasets/)?(?P<name>[^/]+/[^/]+)/?|https?://(?:www\.)?kaggle\.com/datasets/"
        r"(?P<page>[^/]+/[^/?#]+).*",
        "a data set of Kaggle",
        "kaggle datasets download {name} --unzip --path {here}",
    ),
    _Place(r"s3://(?P<name>.+)", "a folder of Amazon S3", "aws s3 sync {whole} {here}"),
    _Place(r"gs://(?P<name>.+)", "a folder of Google Cloud Storage", "gcloud storage rsync -r {whole} {here}"),
    _Place(r"(?:https?|ftp)://(?P<name>.+)", "a URL", "curl -fL {whole} -o {here}"),
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.*", re.DOTALL)


def refuse_network_source(source: str) -> None:
    """Raise DataError for a URL or another place on the network, with the commands that download it and train on it."""
    expected = "a name, or a file or folder on this machine: striate downloads only data sets with a name"
    for place in _PLACES:
        if found := re.fullmatch(place.pattern, source, re.DOTALL | re.IGNORECASE):
            name = found["name"] or found["page"]
            here = pasted(unquote(Path(urlsplit(f"//{name}").path).name) or "data")
            download = place.command.format(whole=pasted(source), name=pasted(name), here=here)
            raise DataError(f"data {source}", place.what, expected, f"{download} && striate train {here}")
    if _SCHEME.fullmatch(source):
        raise DataError(f"data {source}", "a URL", expected, "download it, and give the file or folder")
