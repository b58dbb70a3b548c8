"""Prototypical networks (Snell et al., 2017): new glyphs from five examples."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def make_glyphs(n_class, per_class, seed, size=16, noise=0.5):
    """Classes are random patterns of 4 x 4 cells; samples are moved, and noisy."""
    rng = np.random.default_rng(seed)
    patterns = rng.random((n_class, 4, 4)) < 0.5
    images = np.zeros((n_class, per_class, 1, size, size), dtype=np.float32)
    for c in range(n_class):
        glyph = np.kron(patterns[c], np.ones((3, 3)))
        for k in range(per_class):
            top, left = rng.integers(0, size - 12 + 1, 2)
            images[c, k, 0, top : top + 12, left : left + 12] = glyph
    images += noise * rng.normal(size=images.shape).astype(np.float32)
    return torch.from_numpy(images)


class EpisodeSampler:
    """Yields support (way, shot, ...) and query (way, queries, ...) images of `way` random classes."""

    def __init__(self, images, way, shot, queries, episodes, seed=None):
        self.images = images
        self.way, self.shot, self.queries, self.episodes = way, shot, queries, episodes
        self.seed = seed

    def __len__(self):
        return self.episodes

    def __iter__(self):
        generator = None
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed)
        n_class, per_class = self.images.shape[:2]
        for _ in range(self.episodes):
            support, query = [], []
            for c in torch.randperm(n_class, generator=generator)[: self.way].tolist():
                picked = torch.randperm(per_class, generator=generator)[: self.shot + self.queries]
                support.append(self.images[c, picked[: self.shot]])
                query.append(self.images[c, picked[self.shot :]])
            yield torch.stack(support), torch.stack(query)


def conv_block(n_in, n_out):
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2))


class Encoder(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.blocks = nn.Sequential(conv_block(1, width), conv_block(width, width), conv_block(width, width))

    def forward(self, x):
        return self.blocks(x).flatten(1)


class ProtoNet(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.scale = nn.Parameter(torch.tensor(0.05))

    def loss(self, support, query):
        """The loss and the accuracy of an episode; its classes are numbered 0 ... way - 1."""
        way, shot = support.shape[:2]
        n_query = query.shape[1]
        images = torch.cat([support.flatten(0, 1), query.flatten(0, 1)])
        z = self.encoder(images)
        prototypes = z[: way * shot].view(way, shot, -1).mean(1)
        z_query = z[way * shot :]
        target = torch.arange(way, device=z.device).repeat_interleave(n_query)

        distance = (z_query[:, None, :] - prototypes[None, :, :]).pow(2).sum(-1)
        logits = -self.scale * distance
        loss = F.cross_entropy(logits, target)
        accuracy = (logits.argmax(1) == target).float().mean()
        return loss, accuracy


def run_epoch(model, sampler, optimizer=None):
    """Means over the episodes, which are all equally large."""
    training = optimizer is not None
    model.train(training)
    results = []
    with torch.set_grad_enabled(training):
        for support, query in sampler:
            loss, accuracy = model.loss(support, query)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            results.append(torch.stack([loss.detach(), accuracy]))
    return torch.stack(results).mean(0).tolist()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shot", type=int, default=5)
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    # classes of validation are not among those of training, as always in few-shot learning
    train_images = make_glyphs(60, 20, seed=args.seed)
    valid_images = make_glyphs(20, 20, seed=args.seed + 1)
    mean, std = train_images.mean(), train_images.std()
    train_images, valid_images = (train_images - mean) / std, (valid_images - mean) / std
    train_sampler = EpisodeSampler(train_images, args.way, args.shot, args.queries, args.episodes)
    valid_sampler = EpisodeSampler(valid_images, args.way, args.shot, args.queries, 30, seed=123)

    model = ProtoNet(Encoder())
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    best = 0.0
    for epoch in range(1, args.epochs + 1):
        train_loss, train_acc = run_epoch(model, train_sampler, optimizer)
        valid_loss, valid_acc = run_epoch(model, valid_sampler)
        scheduler.step()
        best = max(best, valid_acc)
        print(
            f"epoch {epoch}  train {train_loss:.3f} / {train_acc:.3f}  valid {valid_loss:.3f} / {valid_acc:.3f}"
        )
    print(f"best accuracy on new classes {best:.3f}")


if __name__ == "__main__":
    main()
