"""AlexNet in its three forms, and ZFNet."""

from __future__ import annotations

from striate.models.model_info import ModelInfo

ENTRIES: tuple[ModelInfo, ...] = ()
