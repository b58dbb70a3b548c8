"""Digits with mixup, label smoothing, a one-cycle learning rate and a moving average of the weights."""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from toydata import Digits


def normalize(image):
    return (image.float() / 255 - 0.17) / 0.3


def conv_block(channels_in, channels_out):
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.features = nn.Sequential(conv_block(1, 16), conv_block(16, 32))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, x):
        return self.head(self.features(x))


def mixup(images, labels, alpha):
    lam = float(np.random.beta(alpha, alpha))
    order = torch.randperm(len(images))
    mixed = lam * images + (1 - lam) * images[order]
    return mixed, labels, labels[order], lam


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = total = 0
    loss_sum = 0.0
    for images, labels in loader:
        logits = model(images)
        loss_sum += F.cross_entropy(logits, labels, reduction="sum").item()
        right += (logits.argmax(1) == labels).sum().item()
        total += len(labels)
    return loss_sum / total, right / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--alpha", type=float, default=0.3)
    parser.add_argument("--ema", type=float, default=0.98)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    train_loader = DataLoader(Digits(True, transform=normalize), args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(Digits(False, transform=normalize), 100)

    model = Net()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.ema), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, epochs=args.epochs, steps_per_epoch=len(train_loader)
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    for epoch in range(args.epochs):
        model.train()
        seen, loss_sum = 0, 0.0
        for images, labels in train_loader:
            images, labels_a, labels_b, lam = mixup(images, labels, args.alpha)
            logits = model(images)
            loss = lam * criterion(logits, labels_a) + (1 - lam) * criterion(logits, labels_b)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
            averaged.update_parameters(model)
            seen += len(labels)
            loss_sum += loss.item() * len(labels)
        raw_loss, raw_accuracy = evaluate(model, val_loader)
        ema_loss, ema_accuracy = evaluate(averaged, val_loader)
        print(
            f"epoch {epoch + 1:2d}  train {loss_sum / seen:.3f}  val {raw_loss:.3f}/{raw_accuracy:.3f}"
            f"  ema {ema_loss:.3f}/{ema_accuracy:.3f}"
        )


if __name__ == "__main__":
    main()
