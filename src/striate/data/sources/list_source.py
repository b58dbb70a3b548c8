"""From a source to its listing: decides which layout it has, first by its name, then by the files at its path."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.annotations.captions import Captions
from striate.data.annotations.classes import are_one_hot
from striate.data.annotations.inputs_as_targets import InputsAsTargets
from striate.data.annotations.target_columns import TargetColumns, with_targets
from striate.data.config import DataConfig
from striate.data.environments.open_environment import is_environment
from striate.data.listing import SPLIT_NAMES, Listing, check_classes, is_split
from striate.data.media.every_medium import is_sample, medium_of
from striate.data.media.volume.volume_files import is_slice, pack_series, with_series
from striate.data.sources.archive import archive_tree, is_archive, unread_archive
from striate.data.sources.boxes.every_layout import list_boxes
from striate.data.sources.boxes.numbered_masks import list_numbered_masks, number_the_objects
from striate.data.sources.boxes.table import box_table, holds_box_rows, list_box_table
from striate.data.sources.captions import caption_table, holds_captions, list_captions
from striate.data.sources.cifar import holds_cifar, list_cifar
from striate.data.sources.class_folders import list_classes, unwrapped
from striate.data.sources.corrections import with_labels, with_splits
from striate.data.sources.download import download
from striate.data.sources.embedded import EMBEDDED
from striate.data.sources.frames import in_view
from striate.data.sources.idx import is_idx, list_idx, list_idx_file
from striate.data.sources.loose_pictures import holds_loose_pictures, list_loose_pictures
from striate.data.sources.manifest import list_manifest
from striate.data.sources.mask_folders import holds_masks, list_masks
from striate.data.sources.named import DatasetInfo, catalogue, download_folder, find, find_in_data_folder, info
from striate.data.sources.network_sources import refuse_network_source
from striate.data.sources.npz import list_npz, list_npz_folder, npz_of_folder
from striate.data.sources.objects import is_given_data, list_given
from striate.data.sources.other_layouts import listing_tables, refuse_other_layouts
from striate.data.sources.points import list_points
from striate.data.sources.shards import holds_shards, is_shard, list_folder, list_pattern, list_shards, names_shards
from striate.data.sources.source_names import parse_names
from striate.data.sources.svhn import holds_svhn, list_svhn, list_svhn_file
from striate.data.sources.tree import Tree, as_text, folder_tree, is_hidden
from striate.errors import ConfigError, DataError, OtherAnnotationError, pasted
from striate.wording import listed

FEWEST_PAGES = 4
"""A TIFF with at least so many pages is a volume."""
_FORMS = "a folder, .tar, .tar.gz, .tgz, .zip, .csv, .npz, .mat or idx file"


def list_source(
    config: DataConfig, annotation: str | None = None, announce: Callable[[str], None] | None = None
) -> Listing:
    """The samples of `config.source`. `annotation`: the kind of annotation to read; None: the one that the source has.

    Raises DataError, and ConfigError for fields that do not apply to the source.
    """
    try:
        return _list_requested(config, annotation, announce)
    except OtherAnnotationError:
        if annotation is None:
            raise
        _refuse_as_annotated(config, annotation)
        raise


def _refuse_as_annotated(config: DataConfig, annotation: str) -> None:
    """Raise DataError that says which annotations the source has, if it has others than class names.

    What is read on request of an `annotation` need not be that: where it is not found, folders or labels are taken for
    classes."""
    with suppress(ConfigError):
        listing = list_source(config)
        if not listing.has_one_class_each:
            raise annotation_kind(annotation).none_of(listing, annotation_kind(listing.annotation))


def _list_requested(config: DataConfig, annotation: str | None, announce: Callable[[str], None] | None) -> Listing:
    if not config.source:  # an empty path would be the current folder
        raise DataError("data", "an empty source", f"a name, or {_FORMS}", "striate train mnist5k")
    if is_given_data(config.source):
        given = list_given(config.source, config.layout, needs_targets=annotation != InputsAsTargets.name)
        return _corrected(_retarget(given, annotation), config)
    refuse_network_source(config.source)
    if is_environment(config.source):
        raise DataError(
            f"data {config.source}",
            "an environment, which has no samples before it is played",
            "samples: a name, a folder or a file; train, play and evaluate take environments",
            f"striate train {pasted(config.source)}, then striate play RUN --out game.gif",
        )
    entry = info(config.source)
    if config.layout != "auto" and not takes_layout(config.source):
        raise ConfigError("data.layout", config.layout, "auto: a layout belongs to .npz arrays", "--data.layout auto")
    if config.names and not config.source.lower().endswith((".csv", ".tsv", ".npz")):
        expected = "nothing: only a manifest has columns and an .npz arrays to name"
        raise ConfigError("data.names", config.names, expected, "leave out --data.names")
    requested = annotation
    if requested is not None:
        annotation = annotation_kind(requested).written_as or requested
    try:
        own = None if entry is not None else find_in_data_folder(config.source)
        if own is not None:
            # The source is its name, so that a recorded command works wherever STRIATE_DATA points to the set.
            listing = replace(_list_path(own, config, annotation, ()), name=config.source, source=config.source)
        elif entry is None:
            listing = _list_path(Path(config.source), config, annotation, ())
        elif entry.embedded:
            listing = EMBEDDED[entry.name]()
        else:
            listing = _list_named(entry, config, annotation, announce)
    except OSError as error:  # a disk fails, or a file vanishes meanwhile
        raise _cannot_read(Path(config.source), error) from None
    if config.class_level is not None and listing.class_level is None:
        raise ConfigError(
            "data.class_level",
            str(config.class_level),
            "data in class folders: no other data have a level",
            "leave out --data.class_level",
        )
    if config.ignore is not None:
        if not listing.has_masks:
            raise ConfigError(
                "data.ignore", str(config.ignore), "masks, whose pixels have values", "leave out --data.ignore"
            )
        listing = replace(listing, ignore=config.ignore)
    listing = in_view(_stacks(listing, config), config)
    listing = _grouped(listing, config.group)
    if config.targets is not None:
        listing = with_targets(listing, config.targets)
    return _corrected(_retarget(listing, requested), config)


def _stacks(listing: Listing, config: DataConfig) -> Listing:
    """The listing as volumes, if its pictures are TIFFs of many pages; the first one decides."""
    requested = config.size is not None or config.pages is not None
    if requested or not listing.medium.pictures or listing.read is None or not listing.paths:
        return listing
    volumes = medium_of("volume")
    if not all(volumes.owns(path) for path in listing.paths) or listing.annotation not in ("class", "number", "mask"):
        return listing
    try:
        shape = volumes.header(listing.read(0), listing.paths[0], max_pixels=config.max_pixels).shape
    except (OSError, DataError):  # a single page, or no TIFF: pictures, whose reader reports the error
        return listing
    if shape[0] < FEWEST_PAGES:
        return listing
    note = f"TIFF: {listing.paths[0]} has {shape[0]} pages, so the files are read as volumes."
    return replace(listing, kind=volumes.name, notes=(*listing.notes, note))


def _corrected(listing: Listing, config: DataConfig) -> Listing:
    """The listing with the labels and splits of the configuration."""
    if config.labels is not None:
        listing = with_labels(listing, config.labels)
    if config.splits is not None:
        listing = with_splits(listing, config.splits)
    return check_classes(listing)


def _grouped(listing: Listing, column: str | None) -> Listing:
    """The listing with this column as its groups. Raises ConfigError for a missing column."""
    if column is None:
        return listing
    columns = dict(listing.columns)
    values = columns.pop(column.lower(), None)
    if values is None:
        known = ", ".join(columns) or "this source has none"
        near = get_close_matches(column.lower(), columns, 1)
        remedy = f"--data.group {near[0]}" if near else "leave out --data.group"
        raise ConfigError("data.group", column, f"one of the other columns of a manifest: {known}", remedy)
    return replace(listing, groups=tuple(value or None for value in values), columns=columns)


def _retarget(listing: Listing, annotation: str | None) -> Listing:
    """The listing with annotations of this kind; None leaves them unchanged, except for arrays of one-hot numbers,
    which are classes. Raises DataError where they cannot be converted."""
    numbers = listing.targets if listing.inputs is not None and listing.has_numbers else None
    if annotation is None and numbers is not None and are_one_hot(numbers):
        annotation = "class"
    if annotation in (None, listing.annotation):
        return listing
    return annotation_kind(annotation).retarget(listing, annotation_kind(listing.annotation))


def takes_layout(source: str) -> bool:
    """Whether the source has arrays, whose order of axes can be given."""
    if is_given_data(source):
        return True
    try:
        path = find_in_data_folder(source) or Path(source)
        return bool(npz_of_folder(path)) if path.is_dir() else source.lower().endswith(".npz")
    except OSError:
        return False


def _list_named(
    entry: DatasetInfo, config: DataConfig, annotation: str | None, announce: Callable[[str], None] | None
) -> Listing:
    path = find(entry.name)
    if path is None:
        path = download(entry, download_folder(), announce=announce)
    listing = _list_path(path, config, annotation, entry.classes)
    notes = listing.notes
    if "jpeg" in path.name:
        notes += (f"{path.name} contains the images re-encoded as JPEG: accuracy is a little below published values.",)
    return replace(listing, name=entry.name, source=entry.name, notes=notes)


def _list_path(path: Path, config: DataConfig, annotation: str | None, class_names: tuple[str, ...]) -> Listing:
    # Not resolve(), which would replace links that the user knows.
    absolute = Path(os.path.abspath(path))  # noqa: PTH100
    if names_shards(path.name) and not absolute.exists():
        return list_pattern(str(path))
    mode = _mode(path, absolute, config)
    needs_targets = annotation != InputsAsTargets.name
    if stat.S_ISDIR(mode) and holds_shards(absolute):
        return list_folder(absolute)
    if stat.S_ISDIR(mode) and (archives := npz_of_folder(absolute)):
        return list_npz_folder(absolute, archives, config.layout, needs_targets=needs_targets)
    if stat.S_ISDIR(mode):
        return _note_siblings(absolute, _list_tree(folder_tree(absolute), class_names, annotation, config))
    name = absolute.name
    if not stat.S_ISREG(mode):
        raise DataError(f"data {path}", "neither a file nor a folder", _FORMS, "give a file or a folder")
    if is_archive(absolute):
        tree = archive_tree(absolute)
        if name.lower().endswith(".tar") and is_shard(tree):
            return list_shards([absolute], str(absolute))
        return _list_tree(unwrapped(tree), class_names, annotation, config)
    if name.lower().endswith((".csv", ".tsv")):
        called = parse_names(config.names)
        # Masks are never in a table: the boxes are read, for an error that says what there is.
        boxed = config.targets is None and annotation in (None, "box", "labels", "mask", "instance")
        if boxed and holds_box_rows(absolute, called):
            return list_box_table(absolute, called)
        captions = config.targets is None and annotation in (None, Captions.name)
        if captions and holds_captions(absolute, called, requested=annotation is not None):
            return list_captions(absolute, called)
        return list_manifest(absolute, annotation if config.targets is None else TargetColumns.name, called)
    if name.lower().endswith((".xlsx", ".xls", ".ods")):
        raise _spreadsheet(path)
    if name.lower().endswith(".npz"):
        return list_npz(absolute, config.layout, parse_names(config.names), needs_targets=needs_targets)
    if name.lower().endswith(".mat"):
        return list_svhn_file(absolute)
    if name.lower().endswith(".json"):
        tree = folder_tree(absolute.parent)
        if not any(map(is_sample, tree.files)):  # the images are beside the folder of the file
            tree = folder_tree(absolute.parent.parent)
        if points := list_points(tree, annotation, absolute.relative_to(tree.where).as_posix()):
            return replace(points, source=str(absolute))
        if found := list_boxes(folder_tree(absolute.parent), annotation, name):
            return replace(found, name=absolute.stem, source=str(absolute))
    if is_idx(name):
        return list_idx_file(absolute)
    if name.lower().endswith(".npy"):
        both = f"numpy.savez({f'{absolute.stem}.npz'!r}, x=numpy.load({str(path)!r}), y=labels)"
        raise DataError(f"data {path}", "a single array", "inputs and targets in one .npz", both)
    if error := unread_archive(path):
        raise error
    raise DataError(f"data {path}", "a file of another form", _FORMS, f"give the folder instead: '{_folder_of(path)}'")


def _folder_of(path: Path) -> Path:
    """The folder to give in place of a file: its own, or for a sample in a class folder, the folder of the classes."""
    folder = path.parent
    above = Path(os.path.normpath(folder / ".."))
    with suppress(OSError):
        if is_sample(path.name) and not _subfolders(folder):
            classes = _subfolders(above)
            if len(classes) > 1 and all(any(is_sample(one.name) for one in there.iterdir()) for there in classes):
                return above
    return folder


def _subfolders(folder: Path) -> list[Path]:
    return [one for one in folder.iterdir() if one.is_dir() and not is_hidden(one.name)]


def _spreadsheet(path: Path) -> DataError:
    table = path.with_suffix(".csv")
    remedy = f"save it as CSV (in Excel: Save As, CSV UTF-8), and then: striate train {pasted(table)}"
    return DataError(f"data {path}", "a spreadsheet", "its first sheet as .csv, with path,label", remedy)


def _note_siblings(folder: Path, listing: Listing) -> Listing:
    """The listing of a folder, with a note if it is only the training split of a set with other splits."""
    if SPLIT_NAMES.get(folder.name.lower()) != "train":
        return listing
    others = sorted(f"{one.name}/" for one in folder.parent.iterdir() if is_split(one.name) and one != folder)
    if not others:
        return listing
    note = f"Only {folder.name}/ is read, not {listed(others)} beside it. To use all, give {pasted(folder.parent)}."
    return replace(listing, notes=(*listing.notes, note))


def _mode(path: Path, absolute: Path, config: DataConfig) -> int:
    """The mode (`stat`) of the file or folder at the path. Raises DataError where there is none, or its path is not
    UTF-8."""
    if as_text(str(absolute)) != str(absolute):
        raise DataError(
            "data",
            f"a path that is not UTF-8: {as_text(str(absolute))}",
            "a path in UTF-8, since config.yaml records it",
            "rename the file or folder, or make a link to it: ln -s … data",
        )
    try:
        return absolute.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise _nothing_there(path, config) from None
    except (OSError, ValueError) as error:
        raise _cannot_read(path, error) from None


def _cannot_read(path: Path, error: OSError | ValueError) -> DataError:
    reason = getattr(error, "strerror", None) or str(error)
    remedy = f"chmod -R u+rX '{path}'" if isinstance(error, PermissionError) else "check the path"
    return DataError(f"data {path}", reason, f"a path that can be read: {_FORMS}", remedy)


def _with_folders_of_slices(tree: Tree) -> Tree:
    """The tree with one file in place of the slices of a folder, named by the folder and `*.dcm`."""
    if not any(map(is_slice, tree.files)):
        return tree
    entries = with_series(tree.files)

    def read(file: str) -> bytes:
        parts = entries.get(file, (file,))
        return tree.read(file) if parts == (file,) else pack_series(map(tree.read, parts))

    return replace(tree, files=tuple(sorted(entries)), read=read)


def _list_tree(tree: Tree, class_names: tuple[str, ...], annotation: str | None, config: DataConfig) -> Listing:
    tree = _with_folders_of_slices(tree)
    inner = unwrapped(tree)  # arrays are found in folders as in archives; a folder of pictures may be a class
    if any(is_idx(file) for file in inner.loose()):
        return list_idx(inner, class_names)
    if holds_cifar(inner):
        return list_cifar(inner)
    if holds_svhn(inner):
        return list_svhn(inner)
    if annotation == InputsAsTargets.name and holds_loose_pictures(tree):
        return list_loose_pictures(tree)
    if annotation == "box" and (boxed := list_boxes(tree, annotation)):
        return boxed
    if annotation in (None, "instance") and holds_masks(tree) and number_the_objects(tree, config.max_pixels):
        return list_numbered_masks(tree, config.max_pixels, outlines=True)
    if annotation == "instance" and (outlined := list_boxes(tree, annotation)):
        return outlined
    if points := list_points(tree, annotation):
        return points
    if holds_masks(tree):
        if annotation in ("box", "instance"):
            return list_numbered_masks(tree, config.max_pixels, outlines=annotation == "instance")
        return list_masks(tree)
    if annotation in (None, "labels") and (boxed := list_boxes(tree)):
        return boxed
    if annotation in (None, "box", "labels") and (table := box_table(tree, requested=annotation == "box")):
        return list_box_table(table, {})
    if annotation in (None, Captions.name) and (table := caption_table(tree, requested=annotation is not None)):
        return list_captions(table, {})
    if annotation not in ("class", InputsAsTargets.name):  # classes on request can come from any folder
        refuse_other_layouts(tree)
    try:
        listing = list_classes(tree, config.class_level)
    except DataError as error:
        if annotation in (None, "class", InputsAsTargets.name):
            raise
        raise OtherAnnotationError(error.where, error.got, error.expected, error.remedy) from None
    tables = [pasted(PurePosixPath(tree.where) / name) for name in listing_tables(tree)]
    notes = tuple(
        f"{name} also lists these files and is not read; to train on it: striate train {name}" for name in tables
    )
    return replace(listing, notes=(*listing.notes, *notes))


def _nothing_there(path: Path, config: DataConfig) -> DataError:
    if config.fingerprint is not None:  # of a run, which needs the same data
        remedy = f"put them back, or link to their new place: ln -s PLACE {pasted(path)}"
        got = "the data of the run are no longer there"
        return DataError(f"data {path}", got, "the unchanged data that the run was trained on", remedy)
    names = [entry.name for entry in catalogue()]
    try:
        siblings = [item.name for item in path.parent.iterdir()]
    except (OSError, ValueError):
        siblings = []
    near = get_close_matches(str(path), names, 1, 0.6)
    near += [str(path.parent / name) for name in get_close_matches(path.name, siblings, 1, 0.6)]
    remedy = f"did you mean {near[0]}?" if near else f"check the path{_start(path)}; striate datasets lists the names"
    if sum(fnmatch(name, path.name) for name in siblings) > 1:
        remedy = f"give the folder, not a pattern for its files: {pasted(path.parent)}"
    expected = f"{_FORMS}; or one of {', '.join(names)}"
    return DataError(f"data {path}", "neither a named data set nor a path that exists", expected, remedy)


def _start(path: Path) -> str:
    """Where a relative path starts, as part of a sentence."""
    with suppress(OSError):
        return "" if path.is_absolute() else f", seen from {Path.cwd()}"
    return ""
