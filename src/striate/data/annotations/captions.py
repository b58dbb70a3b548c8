"""Captions: sentences that describe a picture, one or more for each."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.annotation import AnnotationKind
from striate.data.listing import Listing
from striate.errors import DataError
from striate.wording import several

LETTERS = 24
"""Bytes of a word, in UTF-8; longer words are cut."""
MOST_WORDS = 100
"""A longer caption, in words, is refused."""
BETWEEN = " | "
"""Separates the captions of a picture in one text."""
END, NOTHING = 0, -1
"""The bytes of the row after a caption, and of padding rows."""
_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """The words of a caption: runs of letters and digits in lower case, `t-shirt` and `dog's` as one word; other
    characters, such as punctuation, separate words. Longer words are cut to `LETTERS` bytes."""
    found = _WORD.findall(unicodedata.normalize("NFC", text).lower())
    return [_cut(word.replace("’", "'")) for word in found]


def _cut(word: str) -> str:
    return word.encode()[:LETTERS].decode("utf-8", "ignore")


def word_rows(words: Iterable[str]) -> NDArray[np.int8]:
    """(M, LETTERS) the bytes of words, padded with 0."""
    joined = b"".join(word.encode().ljust(LETTERS, b"\0") for word in words)
    return np.frombuffer(joined, np.int8).reshape(-1, LETTERS)


def caption_rows(captions: Sequence[Sequence[str]], most: int) -> NDArray[np.int8]:
    """(most, LETTERS) the words of captions one after the other, with a row of `END` after each caption, padded with
    `NOTHING`."""
    rows = np.full((most, LETTERS), NOTHING, np.int8)
    found = word_rows(word for words in captions for word in (*words, ""))
    rows[: len(found)] = found
    return rows


def captions_in(rows: Any) -> list[list[str]]:
    """The captions in rows (M, LETTERS) of bytes, integers of any type. Words after the last end are a caption too."""
    numbers = np.asarray(rows)
    numbers = numbers[~(numbers[:, 0] == NOTHING)] if numbers.dtype == np.int8 else numbers
    if numbers.dtype.kind == "f":  # NaN becomes an empty caption; the loss, which is NaN too, is refused
        numbers = np.nan_to_num(numbers, nan=0.0, posinf=0.0, neginf=0.0)
    texts = numbers.astype(np.uint8).tobytes()
    words = [texts[k : k + LETTERS].rstrip(b"\0").decode("utf-8", "replace") for k in range(0, len(texts), LETTERS)]
    found: list[list[str]] = [[]]
    for word in words:
        if word:
            found[-1].append(word)
        else:
            found.append([])
    return found if found[-1] else found[:-1]


class Captions(AnnotationKind):
    """(N, M, LETTERS) int8: rows of the bytes of a word (`caption_rows`); M is the most that a picture has."""

    name: ClassVar[str] = "caption"
    word: ClassVar[str] = "captions"
    texts: ClassVar[str] = "captions"
    task: ClassVar[str] = "caption"
    layout: ClassVar[str] = ", or a manifest with the columns path,caption and one row per caption"

    def check(self, listing: Listing, ids: Mapping[str, NDArray[np.int64]], targets: Mapping[str, Any]) -> None:
        """Captions must differ: from one caption for all images, there is nothing to learn."""
        del ids
        train = targets.get("train")
        if train is not None and bool((train == train[:1]).all()):
            raise DataError(
                f"data {listing.source}",
                f"the same caption for each of {several(len(train), 'training image')}: " + self.text(train[0].numpy()),
                "captions that describe each image",
                "give a manifest with a caption of its own for each image",
            )

    def label_keys(self, listing: Listing, ids: Sequence[int]) -> dict[int, object]:
        """The same key for all: different captions of one image do not contradict each other."""
        del listing
        return dict.fromkeys(ids, "")

    def text(self, target: Any) -> str:
        """The captions of a sample in one text."""
        return BETWEEN.join(" ".join(words) for words in captions_in(target))

    def counted(self, listing: Listing, ids: Sequence[int]) -> str:
        """`4,000 captions, 5 an image, 10.9 words each; 3,300 words: a (6,000), …`."""
        assert listing.targets is not None
        own = [words for number in ids for words in captions_in(listing.targets[number])]
        counts = Counter(word for words in own for word in words)
        usual = ", ".join(f"{word} ({count:,})" for word, count in counts.most_common(6))
        each, long = len(own) / max(len(ids), 1), counts.total() / max(len(own), 1)
        return (
            f"{several(len(own), 'caption')}, {each:.3g} per image, {long:.3g} words each; "
            f"{several(len(counts), 'word')}: {usual}{', …' if len(counts) > 6 else ''}"
        )

    def manifest_columns(self, listing: Listing) -> tuple[str, ...]:
        """The column of captions."""
        del listing
        return ("caption",)


def with_captions(listing: Listing, texts: Sequence[Sequence[str]]) -> Listing:
    """The listing with these captions of each sample."""
    words = [[words_of(text) for text in own] for own in texts]
    most = max(sum(len(one) + 1 for one in own) for own in words)
    return replace(
        listing,
        annotation=Captions.name,
        labels=tuple(BETWEEN.join(" ".join(text.split()) for text in own) for own in texts),
        targets=np.stack([caption_rows(own, most) for own in words]),
    )
