"""Supervised contrastive learning of shapes in two stages: an encoder from two augmented views, then a linear classifier on
the frozen encoder."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from toydata import Shapes

opt = SimpleNamespace(seed=2, batch=96, epochs=12, linear_epochs=8, lr=2e-3, linear_lr=1e-2, temperature=0.2, width=32)


def load(train, count):
    data = Shapes(train=train, count=count)
    return (torch.stack(data.images) - 0.5) / 0.2, torch.tensor(data.targets)


def view(images):
    """A random flip, a shift by up to two pixels and a change of contrast, each of its own for every picture."""
    n, _, h, w = images.shape
    flip = torch.rand(n, 1, 1, 1) < 0.5
    images = torch.where(flip, images.flip(-1), images)
    # zero is the gray ground, so that padding looks like it
    padded = F.pad(images, (2, 2, 2, 2))
    rows = torch.randint(0, 5, (n, 1, 1, 1)) + torch.arange(h).view(1, 1, h, 1)
    columns = torch.randint(0, 5, (n, 1, 1, 1)) + torch.arange(w).view(1, 1, 1, w)
    each = torch.arange(n).view(n, 1, 1, 1)
    channel = torch.arange(3).view(1, 3, 1, 1)
    shifted = padded[each, channel, rows, columns]
    return shifted * (0.8 + 0.4 * torch.rand(n, 1, 1, 1))


def make_encoder(width):
    def block(inside, outside, stride):
        return [nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]

    layers = block(3, width, 1) + block(width, 2 * width, 2) + block(2 * width, 2 * width, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())


class SupConLoss(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, embeddings, labels):
        similarity = embeddings @ embeddings.T / self.temperature
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        log_probability = similarity - similarity.masked_fill(itself, float("-inf")).logsumexp(dim=1, keepdim=True)
        positive = (labels[:, None] == labels[None, :]) & ~itself
        mean_positive = (log_probability * positive).sum(1) / positive.sum(1)
        return -mean_positive.mean()


def pretrain(encoder, images, labels):
    features = 8 * opt.width
    projector = nn.Sequential(nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, 32))
    criterion = SupConLoss(opt.temperature)
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=opt.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=opt.epochs)
    for epoch in range(opt.epochs):
        encoder.train()
        losses = []
        for chosen in torch.randperm(len(images)).split(opt.batch):
            both = torch.cat([view(images[chosen]), view(images[chosen])])
            embeddings = F.normalize(projector(encoder(both)), dim=1)
            loss = criterion(embeddings, labels[chosen].repeat(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        scheduler.step()
        print(f"contrastive epoch {epoch + 1}: loss {torch.stack(losses).mean():.4f}")


def probe(encoder, train, val):
    """The encoder is done: its features are computed once."""
    encoder.eval().requires_grad_(False)
    with torch.no_grad():
        train_features, val_features = encoder(train[0]), encoder(val[0])
    linear = nn.Linear(train_features.shape[1], 6)
    optimizer = torch.optim.SGD(linear.parameters(), lr=opt.linear_lr, momentum=0.9)
    for epoch in range(opt.linear_epochs):
        linear.train()
        for chosen in torch.randperm(len(train_features)).split(opt.batch):
            loss = F.cross_entropy(linear(train_features[chosen]), train[1][chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        linear.eval()
        with torch.no_grad():
            accuracy = (linear(val_features).argmax(1) == val[1]).float().mean().item()
        print(f"linear epoch {epoch + 1}: accuracy {accuracy:.4f}")


if __name__ == "__main__":
    torch.manual_seed(opt.seed)
    train, val = load(True, 1536), load(False, 300)
    encoder = make_encoder(opt.width)
    pretrain(encoder, *train)
    probe(encoder, train, val)
