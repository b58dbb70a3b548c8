"""VGG with and without batch normalization."""

from __future__ import annotations

from striate.models.model_info import ModelInfo

ENTRIES: tuple[ModelInfo, ...] = ()
