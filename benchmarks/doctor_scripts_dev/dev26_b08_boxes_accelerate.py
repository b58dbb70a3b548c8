"""Where is the shape? Box regression with Accelerate; mean IoU of validation."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class BoxDataset(Dataset):
    """Images and boxes (left, top, right, bottom, in shares of the image), mirrored at random for training."""

    def __init__(self, train, count, size=24):
        self.shapes = Shapes(train=train, count=count, size=size)
        self.augment = train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, _ = self.shapes[index]
        box = self.shapes.boxes[index]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-1)
            box = torch.stack([1 - box[2], box[1], 1 - box[0], box[3]])
        return (image - 0.5) / 0.25, box


def conv_block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


class Localizer(nn.Module):
    def __init__(self, size=24):
        super().__init__()
        self.backbone = nn.Sequential(conv_block(3, 16), conv_block(16, 32))
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(32 * (size // 4) ** 2, 96),
            nn.ReLU(inplace=True),
            nn.Linear(96, 4),
        )

    def forward(self, images):
        return self.head(self.backbone(images)).sigmoid()


def paired_iou(a, b):
    """IoU of each box of a with the box of b in the same row."""
    left_top = torch.maximum(a[:, :2], b[:, :2])
    right_bottom = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (right_bottom - left_top).clamp(min=0).prod(1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(1)
    return inter / (area_a + area_b - inter).clamp(min=1e-6)


@torch.no_grad()
def evaluate(accelerator, model, loader):
    model.eval()
    ious = []
    for images, boxes in loader:
        predicted = model(images)
        predicted, boxes = accelerator.gather_for_metrics((predicted, boxes))
        ious.append(paired_iou(predicted, boxes))
    return torch.cat(ious)


def training_function(config):
    accelerator = Accelerator(cpu=True)
    set_seed(config["seed"])

    train_loader = DataLoader(BoxDataset(True, 1200), batch_size=config["batch_size"], shuffle=True)
    valid_loader = DataLoader(BoxDataset(False, 300), batch_size=100)
    model = Localizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-3)
    # in epochs
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=15, gamma=0.3)
    model, optimizer, train_loader, valid_loader = accelerator.prepare(model, optimizer, train_loader, valid_loader)

    for epoch in range(config["epochs"]):
        model.train()
        total = 0.0
        for images, boxes in train_loader:
            optimizer.zero_grad()
            loss = F.smooth_l1_loss(model(images), boxes, beta=0.05)
            accelerator.backward(loss)
            optimizer.step()
            total += loss.item()
        scheduler.step()
        ious = evaluate(accelerator, model, valid_loader)
        accelerator.print(
            f"epoch {epoch + 1}: loss {total / len(train_loader):.4f}, "
            f"mean IoU {ious.mean():.3f}, IoU > 0.7: {(ious > 0.7).float().mean():.3f}"
        )


def main():
    training_function({"lr": 1e-3, "batch_size": 32, "epochs": 45, "seed": 42})


if __name__ == "__main__":
    main()
