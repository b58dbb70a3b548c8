"""Search for similar pictures, and match two pictures, by the features of a trained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from striate.api.networks import load
from striate.api.training import Run
from striate.data.media.every_medium import medium_of
from striate.data.predict_inputs import list_inputs, require_pictures
from striate.errors import DataError, pasted
from striate.evaluation.similarity.nearest import Nearest, prepare_search
from striate.evaluation.similarity.search import Hits, Outlier, SimilarFiles, find_hits, most_similar_pairs, outliers
from striate.evaluation.similarity.vectors import FileVectors, file_vectors
from striate.training.trained import Trained
from striate.wording import several

Say = Callable[[str], None]


@dataclass(frozen=True)
class SearchResult:
    """What a search of a folder found."""

    hits: tuple[Hits, ...]
    """The most similar files of each query; empty where there were no queries."""
    alike: tuple[SimilarFiles, ...]
    """The pairs of files with the highest cosine, the most similar first; empty where none were requested."""
    outliers: tuple[Outlier, ...]
    """The files that are least like any other; empty where none were requested."""
    unreadable: tuple[tuple[str, str], ...]
    """The files of the folder that cannot be read, each with the reason."""
    how: str
    """How the folder was searched, in words."""

    def to_json(self) -> list[dict[str, Any]]:
        """The lines of `striate search --json`."""
        return [line.to_json() for part in (self.hits, self.alike, self.outliers) for line in part]


def search(
    run: str | Path | Run | Trained,
    queries: Sequence[str | Path],
    folder: str | Path,
    *,
    top: int = 5,
    alike: int = 0,
    outliers_shown: int = 0,
    announce: Say | None = None,
) -> SearchResult:
    """Find the `top` files of `folder`, at any depth, that are most similar to each of `queries` (files, or folders of
    files), by the cosine of their vectors: the embeddings of a run of `--task embed`, or the features before the output
    layer of any other network. `alike`: number of pairs in the folder with the highest cosine to list.
    `outliers_shown`: number of files to list that are least like any other.

    Up to 100,000 files are compared one by one; for more an index is built, whose recall is measured. Vectors are
    cached by the content of files. Raises DataError where there is nothing to search, UsageError for tables.
    """
    trained, say = _trained(run), announce or (lambda _: None)
    files, ignored = list_inputs([folder], medium_of(trained.preparation.kind))
    if not Path(folder).is_dir():
        expected, remedy = "a folder to search", f"--in {pasted(Path(folder).absolute().parent)}"
        raise DataError(f"folder {folder}", "a file", expected, remedy)
    query_files = _files_of(queries, trained)
    least, many = (2, "two pictures or more") if alike or outliers_shown else (1, "pictures")
    if len(files) < least:
        got, remedy = several(len(files), "picture"), "check the path, or add pictures"
        raise DataError(f"folder {folder}", got, f"a folder with {many}", remedy)
    stored = file_vectors(trained, files)
    if len(stored.paths) < least:
        got = f"{several(len(stored.paths), 'picture')} of {len(files):,} can be read"
        raise DataError(f"folder {folder}", got, f"{many} that can be read", "replace the unreadable files")
    if ignored:
        many = medium_of(trained.preparation.kind).many
        say(f"{several(ignored, 'other file')} ignored: their suffixes are not those of {many}")
    nearest = prepare_search(stored.vectors, say)
    queried = file_vectors(trained, query_files) if query_files else None
    return SearchResult(
        () if queried is None else _hits(nearest, stored, queried, query_files, top),
        tuple(most_similar_pairs(nearest, stored.paths, alike)) if alike else (),
        tuple(outliers(nearest, stored.paths, outliers_shown)) if outliers_shown else (),
        stored.unreadable,
        nearest.line() + (f"; {stored.source}" if stored.source else ""),
    )


def _files_of(queries: Sequence[str | Path], trained: Trained) -> list[str]:
    """The query files, with those in folders. Raises DataError for a folder without any."""
    found: list[str] = []
    for query in queries:
        if not Path(query).is_dir():
            found.append(str(query))
            continue
        inside, _ = list_inputs([query], medium_of(trained.preparation.kind))
        if not inside:
            raise DataError(
                f"query {query}",
                "a folder without pictures",
                "a picture, or a folder of pictures",
                "name another folder",
            )
        found += inside
    return found


def _hits(
    nearest: Nearest, stored: FileVectors, queried: FileVectors, queries: Sequence[str], top: int
) -> tuple[Hits, ...]:
    found = {}
    if queried.paths:
        found = {hit.query: hit for hit in find_hits(nearest, stored.paths, queried.paths, queried.vectors, top)}
    reasons = dict(queried.unreadable)
    return tuple(found[query] if query in found else Hits(query, error=reasons[query]) for query in queries)


@dataclass(frozen=True)
class Match:
    """Whether two pictures are of one class (one person)."""

    same: bool
    """Whether the similarity reaches the threshold."""
    similarity: float
    """Cosine of the two embeddings, at most 1."""
    threshold: float
    """The similarity that was chosen on validation."""
    probability: float
    """Probability that the class is the same, where half of all pairs are of one class."""

    def to_json(self) -> dict[str, Any]:
        """As `striate match --json` prints it."""
        return asdict(self)


def match(run: str | Path | Run | Trained, one: str | Path, other: str | Path) -> Match:
    """Compare two picture files by a run of `--task embed`. Raises UsageError for another task, DataError for a file
    that cannot be read."""
    trained = _trained(run)
    trained.task.threshold_of_pairs()  # refuses other tasks before a file is read
    found = file_vectors(trained, [str(one), str(other)])
    for path, reason in found.unreadable:
        remedy = "replace the file" if Path(path).is_file() else "check the path of the file"
        raise DataError(f"picture {path}", reason, "a picture that can be read", remedy)
    similarity = min(1.0, float(np.dot(*found.vectors.astype(np.float64))))  # lengths are 1 up to rounding of fp32
    threshold, probability = trained.task.threshold_of_pairs(similarity)
    return Match(similarity >= threshold, similarity, threshold, probability)


def _trained(run: str | Path | Run | Trained) -> Trained:
    trained = run if isinstance(run, Trained) else load(run)
    require_pictures(trained.preparation)
    return trained
