"""Which augmentation has a meaning for which data; what has none is refused."""

from __future__ import annotations

from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset
from striate.errors import ConfigError

_OFF = {"crop": 1, "policy": "none", "fill": "edge"}  # the value of others that turns them off is 0 or false


def check_augmentation(config: AugmentConfig, data: Dataset) -> None:
    """Raise ConfigError for the first field that was set and that the data cannot take. Open fields are no request.

    Tables and grids take `noise` and `mixup`. Shift and blur stay below the shorter side of the image.
    """
    asked = [name for name, value in vars(config).items() if value not in (None, False, 0, _OFF.get(name))]
    data.medium.check_augmentation(config, asked, data.name, data.input_shape)


def check_fill(decided: AugmentConfig) -> None:
    """Raise ConfigError where all fields are decided and nothing is moved in that `fill` could be seen in."""
    moves = (decided.shift, decided.rotate, decided.scale, decided.shear, decided.policy == "trivial")
    if decided.fill not in (None, "edge") and not any(moves):
        raise ConfigError(
            "augment.fill",
            f"{decided.fill}, and nothing that moves images",
            "shift, rotate, scale, shear or a policy with it",
            f"--augment.shift 2 --augment.fill {decided.fill}, or leave it out",
        )
