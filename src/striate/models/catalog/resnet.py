"""Residual networks for ImageNet and CIFAR, and ResNeXt."""

from __future__ import annotations

from striate.models.model_info import ModelInfo

ENTRIES: tuple[ModelInfo, ...] = ()
