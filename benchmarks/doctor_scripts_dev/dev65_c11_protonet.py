"""Prototypical networks (Snell et al., 2017) on generated glyphs: train on some characters, test on others."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def make_glyphs(num_classes, per_class, size=16, seed=0):
    """Each class is a random 6 x 6 pattern; samples are shifted, dimmed and noisy. -> (classes, samples, 1, size, size)"""
    rng = np.random.default_rng(seed)
    images = np.zeros((num_classes, per_class, 1, size, size), dtype=np.float32)
    for c in range(num_classes):
        pattern = np.kron(rng.random((6, 6)) < 0.5, np.ones((2, 2))).astype(np.float32)
        for s in range(per_class):
            top, left = rng.integers(1, size - 12, 2)
            images[c, s, 0, top : top + 12, left : left + 12] = pattern * rng.uniform(0.7, 1.0)
    images += 0.15 * rng.standard_normal(images.shape, dtype=np.float32)
    return torch.from_numpy((images - 0.25) / 0.4)


class EpisodeSampler:
    """Yields (support, query): `way` characters in random order, so numbers of classes hold for one episode only."""

    def __init__(self, images, way, shot, query, episodes, seed):
        self.images, self.way, self.shot, self.query, self.episodes = images, way, shot, query, episodes
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self):
        return self.episodes

    def __iter__(self):
        num_classes, per_class = self.images.shape[:2]
        for _ in range(self.episodes):
            classes = torch.randperm(num_classes, generator=self.generator)[: self.way]
            support, query = [], []
            for c in classes:
                chosen = torch.randperm(per_class, generator=self.generator)[: self.shot + self.query]
                support.append(self.images[c, chosen[: self.shot]])
                query.append(self.images[c, chosen[self.shot :]])
            yield torch.stack(support), torch.stack(query)


def conv_block(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class Protonet(nn.Module):
    def __init__(self, hidden=24, out=32):
        super().__init__()
        self.encoder = nn.Sequential(conv_block(1, hidden), conv_block(hidden, out), nn.Flatten(), nn.Linear(out * 16, 64))

    def forward(self, x):
        return self.encoder(x)

    def loss(self, support, query):
        way, shot = support.shape[:2]
        n_query = query.shape[1]
        x = torch.cat([support.flatten(0, 1), query.flatten(0, 1)])
        z = self(x)
        prototypes = z[: way * shot].view(way, shot, -1).mean(dim=1)
        distances = torch.cdist(z[way * shot :], prototypes).pow(2) / z.shape[1]
        target = torch.arange(way).repeat_interleave(n_query)
        loss = F.cross_entropy(-distances, target)
        accuracy = (distances.argmin(dim=1) == target).float().mean()
        return loss, accuracy.item()


@torch.no_grad()
def evaluate(model, sampler):
    model.eval()
    losses, accuracies = [], []
    for support, query in sampler:
        loss, accuracy = model.loss(support, query)
        losses.append(loss.item())
        accuracies.append(accuracy)
    return float(np.mean(losses)), float(np.mean(accuracies))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shot", type=int, default=5)
    parser.add_argument("--query", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--lr", type=float, default=1e-3)
    opt = parser.parse_args()
    torch.manual_seed(0)

    train_images = make_glyphs(48, 20, seed=0)
    val_images = make_glyphs(20, 20, seed=1)
    train_sampler = EpisodeSampler(train_images, opt.way, opt.shot, opt.query, opt.episodes, seed=2)

    model = Protonet()
    optimizer = torch.optim.Adam(model.parameters(), lr=opt.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    best = 0.0
    for epoch in range(1, opt.epochs + 1):
        model.train()
        losses, accuracies = [], []
        for support, query in train_sampler:
            optimizer.zero_grad()
            loss, accuracy = model.loss(support, query)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            accuracies.append(accuracy)
        scheduler.step()
        val_sampler = EpisodeSampler(val_images, opt.way, opt.shot, opt.query, 30, seed=3)
        val_loss, val_accuracy = evaluate(model, val_sampler)
        best = max(best, val_accuracy)
        print(
            f"epoch {epoch}: train loss {np.mean(losses):.3f} acc {np.mean(accuracies):.3f}, "
            f"val loss {val_loss:.3f} acc {val_accuracy:.3f} (best {best:.3f})"
        )


if __name__ == "__main__":
    main()
