"""Mean teacher (Tarvainen and Valpola, 2017): digits, a part of which have labels."""

import argparse
import copy
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

NO_LABEL = -1


class ConvNet(nn.Module):
    def __init__(self, width=24, n_class=10):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(2 * width * 16, n_class),
        )

    def forward(self, x):
        return self.net(x)


def augment(x):
    """Each image is moved by up to a pixel, and a little noise is added."""
    n, _, size, _ = x.shape
    place = torch.arange(size)
    rows = (place[None, :] + torch.randint(-1, 2, (n, 1))) % size
    cols = (place[None, :] + torch.randint(-1, 2, (n, 1))) % size
    moved = x[torch.arange(n)[:, None, None], 0, rows[:, :, None], cols[:, None, :]]
    return moved.unsqueeze(1) + 0.1 * torch.randn_like(x)


def endless(loader):
    while True:
        yield from loader


def ramp_up(step, length):
    if step >= length:
        return 1.0
    phase = 1.0 - step / length
    return math.exp(-5.0 * phase * phase)


@torch.no_grad()
def update_ema(student, teacher, step, decay):
    decay = min(1 - 1 / (step + 1), decay)
    for mean, p in zip(teacher.parameters(), student.parameters()):
        mean.mul_(decay).add_(p, alpha=1 - decay)


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    correct = sum((model(x).argmax(1) == y).sum() for x, y in loader)
    return correct.item() / len(loader.dataset)


def make_data(n_labeled, n_total):
    images, labels = draw_digits(n_total, seed=0, shift=1)
    valid_images, valid_labels = draw_digits(300, seed=1, shift=1)
    images, valid_images = images.float() / 255, valid_images.float() / 255
    mean, std = images.mean(), images.std()
    images, valid_images = (images - mean) / std, (valid_images - mean) / std
    labeled = TensorDataset(images[:n_labeled], labels[:n_labeled])
    unlabeled = TensorDataset(images[n_labeled:])
    return labeled, unlabeled, TensorDataset(valid_images, valid_labels)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--labeled", type=int, default=300)
    parser.add_argument("--total", type=int, default=1500)
    parser.add_argument("--labeled-batch", type=int, default=32)
    parser.add_argument("--unlabeled-batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--ema-decay", type=float, default=0.97)
    parser.add_argument("--consistency", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    labeled, unlabeled, valid = make_data(args.labeled, args.total)
    labeled_loader = DataLoader(labeled, args.labeled_batch, shuffle=True, drop_last=True)
    unlabeled_loader = DataLoader(unlabeled, args.unlabeled_batch, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid, 100)

    student = ConvNet()
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=args.lr, weight_decay=1e-3)
    total_steps = args.epochs * len(unlabeled_loader)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total_steps, eta_min=args.lr / 50)
    labeled_batches = endless(labeled_loader)

    step = 0
    for epoch in range(1, args.epochs + 1):
        student.train()
        teacher.train()  # its dropout is one of the two noises
        sums = torch.zeros(2)
        for (x_u,) in unlabeled_loader:
            x_l, y = next(labeled_batches)
            x = torch.cat([x_l, x_u])
            logits = student(augment(x))
            with torch.no_grad():
                goal = F.softmax(teacher(augment(x)), dim=1)

            class_loss = F.cross_entropy(logits[: len(y)], y)
            consistency = (F.softmax(logits, dim=1) - goal).pow(2).sum(1).mean()
            weight = args.consistency * ramp_up(step, total_steps // 3)
            loss = class_loss + weight * consistency

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            update_ema(student, teacher, step, args.ema_decay)
            sums += torch.stack([class_loss, consistency]).detach()

        class_mean, consistency_mean = (sums / len(unlabeled_loader)).tolist()
        print(
            f"epoch {epoch:2d}  class {class_mean:.4f}  consistency {consistency_mean:.4f}  "
            f"student {accuracy(student, valid_loader):.3f}  teacher {accuracy(teacher, valid_loader):.3f}"
        )


if __name__ == "__main__":
    main()
