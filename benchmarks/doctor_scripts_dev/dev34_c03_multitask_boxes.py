"""Name and box of a shape: two heads, losses balanced by learned uncertainties, early stopping, best weights restored."""
import argparse
import copy
import os
import sys

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from toydata import Shapes


def tensors(train, count):
    shapes = Shapes(train=train, count=count)
    images = (torch.stack(shapes.images) - 0.5) / 0.2
    return TensorDataset(images, torch.tensor(shapes.targets), torch.stack(shapes.boxes))


class Locator(nn.Module):
    def __init__(self, classes=6):
        super().__init__()
        layers = []
        for inputs, outputs, pool in [(3, 16, True), (16, 32, False), (32, 48, True)]:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            if pool:
                layers.append(nn.MaxPool2d(2))
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 16, 128), nn.ReLU())
        self.name = nn.Linear(128, classes)
        self.box = nn.Linear(128, 4)

    def forward(self, x):
        h = self.trunk(x)
        return self.name(h), self.box(h).sigmoid()


class UncertaintyLoss(nn.Module):
    """Kendall et al.: every task's loss is scaled by exp(-s), and s itself is paid for."""

    def __init__(self):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(2))

    def forward(self, losses):
        return (torch.exp(-self.log_variance) * losses + 0.5 * self.log_variance).sum()


def task_losses(output, labels, boxes):
    logits, predicted = output
    return torch.stack([F.cross_entropy(logits, labels), F.smooth_l1_loss(predicted, boxes, beta=0.05)])


def iou(a, b):
    top_left = torch.maximum(a[:, :2], b[:, :2])
    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(1)
    area = lambda boxes: (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    return inter / (area(a) + area(b) - inter).clamp(min=1e-6)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right, overlap, count = 0.0, 0.0, 0
    for images, labels, boxes in loader:
        logits, predicted = model(images)
        right += (logits.argmax(1) == labels).sum().item()
        overlap += iou(predicted, boxes).sum().item()
        count += len(labels)
    return right / count, overlap / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--patience", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    train_set, val_set = random_split(tensors(True, 2300), [2000, 300])
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, 100)
    test_loader = DataLoader(tensors(False, 300), 100)

    model, criterion = Locator(), UncertaintyLoss()
    optimizer = torch.optim.AdamW(
        [
            {"params": model.parameters(), "weight_decay": 1e-3},
            {"params": criterion.parameters(), "weight_decay": 0.0},
        ],
        lr=args.lr,
    )
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.3, patience=3)

    best, best_state, waited = -1.0, None, 0
    for epoch in range(1, args.epochs + 1):
        model.train()
        sums = torch.zeros(2)
        for images, labels, boxes in train_loader:
            losses = task_losses(model(images), labels, boxes)
            loss = criterion(losses)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums += losses.detach() * len(labels)
        names, boxes_loss = (sums / len(train_set)).tolist()
        accuracy, overlap = evaluate(model, val_loader)
        score = (accuracy + overlap) / 2
        scheduler.step(score)
        print(f"[{epoch:02d}] ce {names:.4f} box {boxes_loss:.5f} | val acc {accuracy:.3f} IoU {overlap:.3f}")
        if score > best:
            best, best_state, waited = score, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited >= args.patience:
                print("stopped early")
                break
    model.load_state_dict(best_state)
    accuracy, overlap = evaluate(model, test_loader)
    print(f"test acc {accuracy:.3f} IoU {overlap:.3f} (best validation score {best:.3f})")


if __name__ == "__main__":
    main()
