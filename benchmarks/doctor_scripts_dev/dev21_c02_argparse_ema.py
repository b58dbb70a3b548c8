"""Train a small network on colored shapes; an exponential average of its weights is what is validated.

    python c02_argparse_ema.py --epochs 18 --lr 0.003
"""

import argparse
import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--ema-decay", type=float, default=0.98)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class ModelEma(nn.Module):
    """Keeps a moving average of everything in the model's state_dict (after timm's ModelEmaV2)."""

    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.module.requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for average, value in zip(self.module.state_dict().values(), model.state_dict().values()):
            if average.is_floating_point():
                average.mul_(decay).add_(value, alpha=1 - decay)
            else:
                average.copy_(value)

    def forward(self, x):
        return self.module(x)


class ConvBnAct(nn.Sequential):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(),
        )


class ShapeNet(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.features = nn.Sequential(
            ConvBnAct(3, width),
            ConvBnAct(width, 2 * width, stride=2),
            ConvBnAct(2 * width, 2 * width),
            ConvBnAct(2 * width, 3 * width, stride=2),
        )
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(3 * width, classes)

    def forward(self, x):
        x = self.features(x).mean(dim=(2, 3))
        return self.head(self.drop(x))


def train_one_epoch(model, ema, loader, optimizer, scheduler):
    model.train()
    total, seen = torch.zeros(()), 0
    for images, targets in loader:
        loss = F.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        ema.update(model)
        total += loss.detach() * len(images)
        seen += len(images)
    return (total / seen).item()


@torch.no_grad()
def validate(model, loader):
    model.eval()
    confusion = torch.zeros(len(NAMES), len(NAMES), dtype=torch.long)
    for images, targets in loader:
        predicted = model(images).argmax(dim=1)
        confusion.index_put_((targets, predicted), torch.ones_like(targets), accumulate=True)
    return (confusion.diag().sum() / confusion.sum()).item(), confusion


def main():
    args = parse_args()
    torch.manual_seed(args.seed)

    def normalize(image):
        return (image - 0.5) / 0.2

    train_loader = DataLoader(
        Shapes(train=True, count=2000, transform=normalize), batch_size=args.batch_size, shuffle=True
    )
    val_loader = DataLoader(Shapes(train=False, count=400, transform=normalize), batch_size=100)

    model = ShapeNet(args.width, len(NAMES))
    ema = ModelEma(model, args.ema_decay)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(train_loader))

    best = 0.0
    for epoch in range(1, args.epochs + 1):
        loss = train_one_epoch(model, ema, train_loader, optimizer, scheduler)
        accuracy, confusion = validate(ema, val_loader)
        best = max(best, accuracy)
        print(f"[{epoch}/{args.epochs}] loss {loss:.4f}  ema accuracy {accuracy:.4f}  best {best:.4f}")
    for name, row in zip(NAMES, confusion.tolist()):
        print(f"{name:>12}", row)


if __name__ == "__main__":
    main()
