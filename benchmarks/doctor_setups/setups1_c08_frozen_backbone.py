"""Transfer learning: a backbone trained on ten digits is frozen, a head learns five groups from few images."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

PRETRAIN = dict(count=1200, seed=60, steps=150, batch_size=64, lr=2e-3)
FINETUNE = dict(count=300, batch_size=25, lr=5e-3, weight_decay=1e-3)
FEATURES = 64


def load(count, seed):
    images, digits = draw_digits(count, seed=seed)
    return (images.float() / 255.0 - 0.15) / 0.3, digits


def make_backbone():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 4 * 4, FEATURES), nn.ReLU(),
    )  # fmt: skip


def pretrained_state(cfg):
    """The state of a backbone after training on other images (stands for a download)."""
    images, digits = load(cfg["count"], cfg["seed"])
    backbone = make_backbone()
    network = nn.Sequential(backbone, nn.Linear(FEATURES, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=cfg["lr"])
    for _ in range(cfg["steps"]):
        index = torch.randint(0, len(images), (cfg["batch_size"],))
        optimizer.zero_grad()
        F.cross_entropy(network(images[index]), digits[index]).backward()
        optimizer.step()
    return backbone.state_dict()


class TransferNet(nn.Module):
    def __init__(self, state, num_classes):
        super().__init__()
        self.backbone = make_backbone()
        self.backbone.load_state_dict(state)
        self.backbone.requires_grad_(False)
        self.backbone.eval()
        self.head = nn.Linear(FEATURES, num_classes)

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()  # batch norm keeps the statistics of the pretraining
        return self

    def forward(self, x):
        features = self.backbone(x)
        return self.head(features)


def groups_of(count, seed):
    images, digits = load(count, seed)
    return TensorDataset(images, digits // 2)


def setup():
    torch.manual_seed(7)
    model = TransferNet(pretrained_state(PRETRAIN), num_classes=5)
    trainable = [p for p in model.parameters() if p.requires_grad]
    return {
        "model": model,
        "train": DataLoader(groups_of(FINETUNE["count"], 0), batch_size=FINETUNE["batch_size"], shuffle=True),
        "val": DataLoader(groups_of(200, 1), batch_size=100),
        "optimizer": torch.optim.AdamW(trainable, lr=FINETUNE["lr"], weight_decay=FINETUNE["weight_decay"]),
        "task": "classify",
    }
