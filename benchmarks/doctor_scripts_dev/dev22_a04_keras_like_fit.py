"""Single-object localization (what is it, and where?) with a Keras-like compile() / fit() of our own."""
import copy
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

SIZE = 24


def read_annotations(train, count):
    """Rows as of a CSV file: a picture, the name of its class, a box in pixels (x1, y1, x2, y2)."""
    raw = Shapes(train=train, count=count, size=SIZE)
    return [
        {"image": image, "label": name, "box": [round(v) for v in (box * SIZE).tolist()]}
        for image, name, box in zip(raw.images, raw.names, raw.boxes)
    ]


def index_classes(rows):
    """Numbers the class names in the order of their first appearance."""
    names = []
    for row in rows:
        if row["label"] not in names:
            names.append(row["label"])
    return {name: i for i, name in enumerate(names)}


class BoxDataset(Dataset):
    def __init__(self, rows, class_to_idx, augment=False):
        self.rows, self.class_to_idx, self.augment = rows, class_to_idx, augment

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        row = self.rows[i]
        image, (x1, y1, x2, y2) = row["image"], row["box"]
        if self.augment and random.random() < 0.5:
            image = image.flip(2)
            x1, x2 = SIZE - x2, SIZE - x1
        image = (image - 0.5) / 0.25
        box = torch.tensor([x1, y1, x2, y2], dtype=torch.float32) / SIZE
        return image, self.class_to_idx[row["label"]], box


class Localizer(nn.Module):
    def __init__(self, n_classes):
        super().__init__()

        def block(c_in, c_out):
            return [nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)]

        self.backbone = nn.Sequential(
            *block(3, 16), *block(16, 32), *block(32, 48), nn.Flatten(), nn.Linear(48 * 3 * 3, 64), nn.ReLU()
        )
        self.label_head = nn.Linear(64, n_classes)
        self.box_head = nn.Sequential(nn.Linear(64, 4), nn.Sigmoid())

    def forward(self, x):
        features = self.backbone(x)
        return self.label_head(features), self.box_head(features)


def box_iou(a, b):
    """Intersection over union of boxes, pair by pair."""
    top_left, bottom_right = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    return overlap / (area_a + area_b - overlap).clamp(min=1e-6)


class Callback:
    def on_epoch_end(self, trainer, epoch, logs):
        pass


class BestWeights(Callback):
    def __init__(self, monitor):
        self.monitor, self.best, self.weights = monitor, float("-inf"), None

    def on_epoch_end(self, trainer, epoch, logs):
        if logs[self.monitor] > self.best:
            self.best, self.weights = logs[self.monitor], copy.deepcopy(trainer.net.state_dict())


class LearningRateOnPlateau(Callback):
    def __init__(self, optimizer, monitor, **options):
        self.monitor = monitor
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)

    def on_epoch_end(self, trainer, epoch, logs):
        self.scheduler.step(logs[self.monitor])
        logs["lr"] = trainer.optimizer.param_groups[0]["lr"]


class Trainer:
    def __init__(self, net):
        self.net, self.history = net, []

    def compile(self, optimizer, box_weight):
        self.optimizer, self.box_weight = optimizer, box_weight

    def run_batch(self, image, label, box):
        scores, boxes = self.net(image)
        loss = F.cross_entropy(scores, label) + self.box_weight * F.smooth_l1_loss(boxes, box, beta=0.1)
        sums = {
            "loss": loss.item() * len(label),
            "acc": (scores.argmax(dim=1) == label).sum().item(),
            "iou": box_iou(boxes.detach(), box).sum().item(),
        }
        return loss, sums

    def train_epoch(self, loader):
        self.net.train()
        totals, count = {"loss": 0.0, "acc": 0.0, "iou": 0.0}, 0
        for image, label, box in loader:
            self.optimizer.zero_grad()
            loss, sums = self.run_batch(image, label, box)
            loss.backward()
            self.optimizer.step()
            totals, count = {k: v + sums[k] for k, v in totals.items()}, count + len(label)
        return {k: v / count for k, v in totals.items()}

    @torch.no_grad()
    def evaluate(self, loader):
        self.net.eval()
        totals, count = {"loss": 0.0, "acc": 0.0, "iou": 0.0}, 0
        for image, label, box in loader:
            _, sums = self.run_batch(image, label, box)
            totals, count = {k: v + sums[k] for k, v in totals.items()}, count + len(label)
        return {k: v / count for k, v in totals.items()}

    def fit(self, loader, validation_data, epochs, callbacks=()):
        for epoch in range(epochs):
            logs = self.train_epoch(loader)
            logs.update({f"val_{k}": v for k, v in self.evaluate(validation_data).items()})
            for callback in callbacks:
                callback.on_epoch_end(self, epoch, logs)
            self.history.append(logs)
            print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{k}: {v:.4g}" for k, v in logs.items()))
        return self.history


torch.manual_seed(3)
random.seed(3)
torch.set_num_threads(1)

train_rows, val_rows = read_annotations(True, 1200), read_annotations(False, 240)
train_set = BoxDataset(train_rows, index_classes(train_rows), augment=True)
val_set = BoxDataset(val_rows, train_set.class_to_idx)
train_loader = DataLoader(train_set, batch_size=48, shuffle=True)
val_loader = DataLoader(val_set, batch_size=80)

net = Localizer(len(train_set.class_to_idx))
optimizer = torch.optim.Adam(
    [
        {"params": net.backbone.parameters(), "lr": 1.5e-3},
        {"params": net.label_head.parameters(), "lr": 3e-3},
        {"params": net.box_head.parameters(), "lr": 3e-3},
    ]
)
best = BestWeights("val_iou")
plateau = LearningRateOnPlateau(optimizer, "val_iou", mode="max", factor=0.1, patience=3)

trainer = Trainer(net)
trainer.compile(optimizer, box_weight=10.0)
trainer.fit(train_loader, val_loader, epochs=26, callbacks=[best, plateau])

net.load_state_dict(best.weights)
print("best weights:", {k: round(v, 4) for k, v in trainer.evaluate(val_loader).items()})
