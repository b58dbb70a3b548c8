"""The metrics of a segmentation."""

from __future__ import annotations

from striate.tasks.metric import Metric

IOU = Metric("iou", "mean IoU", "share")
METRICS = (IOU, Metric("dice", "mean Dice", "share", brief=False), Metric("pixel_accuracy", "pixel accuracy", "share"))
