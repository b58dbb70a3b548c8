"""SimCLR on made digits without labels, then a linear probe on the frozen encoder."""

import math

import torch
from torch import nn, optim
from torch.nn import functional as F

from toydata import draw_digits

TEMPERATURE = 0.2
PRETRAIN_EPOCHS, PROBE_EPOCHS = 24, 12
BATCH = 96


def augment(x):
    """Random affine map, contrast, brightness, blur, noise and a cut-out, each image with its own numbers."""
    n = len(x)
    angle = (torch.rand(n) - 0.5) * 2 * math.radians(12)
    scale = torch.empty(n).uniform_(0.85, 1.15)
    shift = torch.empty(n, 2).uniform_(-0.3, 0.3)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    theta = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    x = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), padding_mode="border", align_corners=False)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(torch.rand(n, 1, 1, 1) < 0.3, blurred, x)
    x = x * torch.empty(n, 1, 1, 1).uniform_(0.6, 1.4) + torch.empty(n, 1, 1, 1).uniform_(-0.1, 0.1)
    return x + 0.08 * torch.randn_like(x)


class Encoder(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 3 * width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(3 * width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3 * width * 16, 128),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.net(x)


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.projector = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 48))

    def forward(self, x):
        return F.normalize(self.projector(self.encoder(x)), dim=1)


def info_nce(z):
    """z: 2n rows, row i and row i + n being views of one image."""
    n = len(z) // 2
    similarity = z @ z.T / TEMPERATURE
    similarity.fill_diagonal_(float("-inf"))
    positive = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(similarity, positive), (similarity.argmax(1) == positive).float().mean()


@torch.no_grad()
def knn_accuracy(encoder, bank_x, bank_y, x, y, k=10):
    encoder.eval()
    bank, query = F.normalize(encoder(bank_x), dim=1), F.normalize(encoder(x), dim=1)
    votes = bank_y[(query @ bank.T).topk(k, dim=1).indices]
    encoder.train()
    return (votes.mode(1).values == y).float().mean().item()


def pretrain(model, images, bank, val):
    steps = len(images) // BATCH
    optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = optim.lr_scheduler.SequentialLR(
        optimizer,
        [optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=steps * 2), optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * (PRETRAIN_EPOCHS - 2))],
        milestones=[steps * 2],
    )
    for epoch in range(PRETRAIN_EPOCHS):
        model.train()
        loss_sum = top1_sum = 0.0
        for chunk in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            views = torch.cat([augment(images[chunk]), augment(images[chunk])])
            loss, top1 = info_nce(model(views))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum, top1_sum = loss_sum + loss.item(), top1_sum + top1.item()
        print(f"pretrain {epoch:2d}: loss {loss_sum / steps:.3f} top-1 of pairs {top1_sum / steps:.3f} kNN {knn_accuracy(model.encoder, *bank, *val):.3f}")


def linear_probe(encoder, train, val):
    encoder.requires_grad_(False)
    encoder.eval()  # frozen: batch norm keeps what it learned
    head = nn.Linear(128, 10)
    optimizer = optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
    x, y = train
    for epoch in range(PROBE_EPOCHS):
        total = 0.0
        for chunk in torch.randperm(len(x)).split(64):
            with torch.no_grad():
                features = encoder(x[chunk])
            loss = F.cross_entropy(head(features), y[chunk])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chunk)
        with torch.no_grad():
            accuracy = (head(encoder(val[0])).argmax(1) == val[1]).float().mean().item()
        print(f"probe {epoch:2d}: loss {total / len(x):.3f} val acc {accuracy:.3f}")


if __name__ == "__main__":
    torch.manual_seed(1)
    prepare = lambda data: ((data[0].float() / 255 - 0.25) / 0.35, data[1])
    unlabeled, _ = prepare(draw_digits(2048, seed=30))
    labeled, val = prepare(draw_digits(640, seed=31)), prepare(draw_digits(400, seed=32))
    model = SimCLR()
    pretrain(model, unlabeled, labeled, val)
    linear_probe(model.encoder, labeled, val)
