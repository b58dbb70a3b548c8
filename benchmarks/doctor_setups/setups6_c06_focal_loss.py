"""One digit against all others, one sample in ten positive: sigmoid focal loss as in RetinaNet."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits

hparams = {"positive": 7, "alpha": 0.75, "gamma": 2.0, "lr": 3e-3, "batch_size": 64}


def image_transform(image):
    return (image.float() / 255 - 0.2) / 0.35


def is_positive(digit):
    return torch.tensor([float(digit == hparams["positive"])])


def sigmoid_focal_loss(logits, targets, alpha=0.75, gamma=2.0):
    """alpha weighs the positives, which are rare, and 1 - alpha the negatives."""
    ce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = torch.sigmoid(logits)
    p_t = p * targets + (1 - p) * (1 - targets)
    alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
    return (alpha_t * (1 - p_t) ** gamma * ce).mean()


class FocalLoss(nn.Module):
    def __init__(self, alpha, gamma):
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits, targets):
        return sigmoid_focal_loss(logits, targets, self.alpha, self.gamma)


class ConvBlock(nn.Sequential):
    def __init__(self, inputs, outputs):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )


class DigitDetector(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.backbone = nn.Sequential(ConvBlock(1, width), ConvBlock(width, 2 * width))
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(2 * width * 4 * 4, 64), nn.ReLU())
        self.cls_score = nn.Linear(64, 1)
        self.init_weights()

    def init_weights(self):
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.constant_(self.cls_score.bias, 0.0)

    def forward(self, x):
        return self.cls_score(self.neck(self.backbone(x)))


def make_loader(train):
    dataset = Digits(
        train=train, count=1600 if train else 400, transform=image_transform, target_transform=is_positive
    )
    return DataLoader(dataset, batch_size=hparams["batch_size"], shuffle=train, drop_last=train)


def setup():
    torch.manual_seed(5)
    model = DigitDetector()
    return {
        "model": model,
        "train": make_loader(True),
        "val": make_loader(False),
        "loss": FocalLoss(hparams["alpha"], hparams["gamma"]),
        "optimizer": torch.optim.Adam(model.parameters(), lr=hparams["lr"]),
    }
