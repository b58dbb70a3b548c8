"""Mean teacher (Tarvainen & Valpola 2017): 200 labeled digits, 1800 without labels.

The student is trained; the teacher is an exponential moving average of it and is what we evaluate.
"""
import copy
import itertools
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

EPOCHS, STEPS, ALPHA, MAX_WEIGHT = 12, 50, 0.98, 5.0


def small_net():
    def stage(cin, cout):
        return [nn.Conv2d(cin, cout, 3, padding=1), nn.GroupNorm(4, cout), nn.LeakyReLU(0.1), nn.MaxPool2d(2)]

    return nn.Sequential(*stage(1, 24), *stage(24, 48), *stage(48, 48),
                         nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 2 * 2, 10))


def jitter(x):
    """Another small shift for each image, and fresh noise."""
    theta = torch.eye(2, 3).repeat(len(x), 1, 1)
    theta[:, :, 2] = (torch.rand(len(x), 2) - 0.5) * 2 * (1.5 / 8)
    moved = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False),
                          padding_mode="border", align_corners=False)
    return moved + 0.1 * torch.randn_like(x)


@torch.no_grad()
def update_teacher(student, teacher, step):
    alpha = min(1 - 1 / (step + 1), ALPHA)
    for slow, fast in zip(teacher.parameters(), student.parameters()):
        slow.mul_(alpha).add_(fast, alpha=1 - alpha)


@torch.no_grad()
def accuracy(net, loader):
    was_training = net.training
    net.eval()
    right = sum((net(x).argmax(1) == y).sum().item() for x, y in loader)
    net.train(was_training)
    return right / len(loader.dataset)


def main():
    torch.manual_seed(4)
    prepare = lambda images: (images.float() / 255 - 0.17) / 0.3
    labeled_x, labeled_y = draw_digits(200, seed=0)
    unlabeled_x, _ = draw_digits(1800, seed=21)
    val_x, val_y = draw_digits(400, seed=1)
    labeled = DataLoader(TensorDataset(prepare(labeled_x), labeled_y), batch_size=25, shuffle=True)
    unlabeled = DataLoader(TensorDataset(prepare(unlabeled_x)), batch_size=64, shuffle=True, drop_last=True)
    val_loader = DataLoader(TensorDataset(prepare(val_x), val_y), batch_size=100)

    student = small_net()
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)

    def forever(loader):
        while True:
            yield from loader

    labeled_stream, unlabeled_stream = forever(labeled), forever(unlabeled)
    counter = itertools.count(1)
    for epoch in range(EPOCHS):
        ramp = math.exp(-5 * (1 - min(1.0, (epoch + 1) / 5)) ** 2)
        student.train()
        supervised = consistent = 0.0
        for _ in range(STEPS):
            (x, y), (u,) = next(labeled_stream), next(unlabeled_stream)
            everything = torch.cat([x, u])
            logits = student(jitter(everything))
            with torch.no_grad():
                goal = teacher(jitter(everything)).softmax(1)
            class_loss = F.cross_entropy(logits[: len(x)], y)
            consistency = F.mse_loss(logits.softmax(1), goal)
            loss = class_loss + MAX_WEIGHT * ramp * consistency
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            update_teacher(student, teacher, next(counter))
            supervised += class_loss.item() / STEPS
            consistent += consistency.item() / STEPS
        print(f"epoch {epoch:2d}  ce {supervised:.4f}  consistency {consistent:.5f}  "
              f"student {accuracy(student, val_loader):.3f}  teacher {accuracy(teacher, val_loader):.3f}")


if __name__ == "__main__":
    main()
