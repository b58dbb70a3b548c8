"""What was asked of the speed of this program, by key: workloads judge themselves under these keys."""

from __future__ import annotations

ASKED = {
    "fashion-epoch": "Fashion-MNIST, lectures' CNN, an epoch with data, batch 128 and 512: ≥ 2.5× the best peer",
    "fashion-epoch-shifted": "the same with augmentation: ≥ 2.2× the best peer",
    "fashion-memory": "peak memory of Fashion-MNIST training: < 1.2 GB in all",
    "augmentation-share": "augmentation: < 15 % of a step of `mnist-cnn` at batch 128",
    "cifar-resnet18-64": "CIFAR ResNet-18, width 64, with augmentation: ≥ 2.5× plain torch fp32",
    "cifar-resnet18-32": "CIFAR ResNet-18, width 32, with augmentation: ≥ 2.5× plain torch fp32",
    "cifar-resnet18-utilisation": "CIFAR ResNet-18, width 64: ≥ 80 % of the bf16 matrix-product rate",
    "photo-loading": "photographs, loading alone, first epoch: ≥ 1.6× a torch DataLoader with Pillow and 2 workers",
    "photos-first": "photographs, ResNet-18 at 160 pixels, first epoch end to end: ≥ 1.8× plain torch",
    "photos-later": "photographs, ResNet-18 at 160 pixels, later epochs: ≥ 2× plain torch",
    "loader-waits": "steps wait for data: < 5 % in all trainings",
    "streaming-memory": "peak memory is flat in the number of images when streaming",
    "speedrun-cifar10": "CIFAR-10 from JPEG files, `--recipe speedrun`, 12 minutes for everything: ≥ 91.5 %",
    "speedrun-mnist": "MNIST: ≥ 99.4 % in ≤ 60 s",
    "speedrun-fashion-mnist": "Fashion-MNIST: ≥ 92.5 % in ≤ 150 s",
    "minutes": "`--minutes T` takes T: 10 % less at most, 3 % more at most",
    "inference-torch": "ResNet-50 inference at 224, batch 32, with torch alone: ≥ 4.5× plain torch fp32",
    "inference-openvino": "ResNet-50 inference at 224, batch 32, with OpenVINO: ≥ 6× plain torch fp32",
    "inference-equal": "answers equal to those of fp32: ≥ 99.5 % of real images",
    "busy": "beside two busy processes: throughput falls by no more than those two take",
    "plan-regret": "the plan's choice over the fastest way: ≥ 0.97 in the median, ≥ 0.92 in the worst; not below plain",
    "plan-cost": "the plan of a run of one minute: < 2 % of it",
    "whole-command-1": "from shell prompt to shell prompt, one epoch: ≥ 1× a script of plain torch",
    "whole-command-10": "the same, ten epochs: ≥ 2× a script of plain torch",
    "plan-choice": "the plan's choice is not slower than `--plan plain` beyond the spread, on ten networks",
}
"""Key to what was asked, in the order of the page. A workload writes `claims[key]`; a key that no result has was not
measured."""
