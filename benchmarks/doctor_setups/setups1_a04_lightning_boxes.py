"""Box regression, written as a LightningModule and a LightningDataModule."""

import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

HPARAMS = {"lr": 2e-3, "weight_decay": 1e-4, "batch_size": 48, "l1_weight": 5.0, "iou_weight": 2.0, "grad_clip": 5.0}


class BoxDataset(Dataset):
    def __init__(self, images, boxes, train):
        self.images, self.boxes, self.train = images, boxes, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, box = (self.images[index] - 0.5) / 0.2, self.boxes[index]
        if self.train:
            image = image * (0.8 + 0.4 * torch.rand(()))  # contrast
        return image, box


class ShapesDataModule:
    def __init__(self, batch_size):
        self.batch_size = batch_size

    def setup(self):
        source = Shapes(train=True, count=1000)
        images, boxes = torch.stack(source.images), torch.stack(source.boxes)
        order = torch.randperm(len(images))
        images = images[order]
        boxes = boxes[order]
        self.train_set = BoxDataset(images[:800], boxes[:800], train=True)
        self.val_set = BoxDataset(images[800:], boxes[800:], train=False)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


def box_iou_pairs(a, b):
    """IoU of row i of a with row i of b; boxes as x1, y1, x2, y2."""
    top_left, bottom_right = torch.max(a[:, :2], b[:, :2]), torch.min(a[:, 2:], b[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(dim=1), (b[:, 2:] - b[:, :2]).prod(dim=1)
    return inter / (area_a + area_b - inter + 1e-6)


class BoxCriterion(nn.Module):
    def __init__(self, l1_weight, iou_weight):
        super().__init__()
        self.l1_weight, self.iou_weight = l1_weight, iou_weight

    def forward(self, pred, target):
        l1 = F.l1_loss(pred, target)
        iou = 1 - box_iou_pairs(pred, target)
        return self.l1_weight * l1 + self.iou_weight * iou.mean()


class LitBoxRegressor(nn.Module):
    def __init__(self, hparams):
        super().__init__()
        self.hparams = dict(hparams)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, x):
        features = self.backbone(x)
        cx, cy, w, h = self.head(features).sigmoid().unbind(dim=1)
        return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=1)

    def training_step(self, batch, criterion):
        images, boxes = batch
        return criterion(self(images), boxes)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"])


def fit_step(model, batch, optimizer, criterion):
    """What Trainer.fit does with a batch."""
    model.train()
    loss = model.training_step(batch, criterion)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), HPARAMS["grad_clip"])
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(7)
    data = ShapesDataModule(HPARAMS["batch_size"])
    data.setup()
    model = LitBoxRegressor(HPARAMS)
    return {
        "model": model,
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "loss": BoxCriterion(HPARAMS["l1_weight"], HPARAMS["iou_weight"]),
        "optimizer": model.configure_optimizers(),
        "step": fit_step,
        "task": "regress",
    }
