"""Prototypical networks: episodes of five unknown signs with five examples each."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def make_signs(classes, per_class, size=14, seed=0):
    """Each class is a random pattern of 5 x 5 fields, drawn twice as large at a slightly random place."""
    g = torch.Generator().manual_seed(seed)
    patterns = (torch.rand(classes, 5, 5, generator=g) < 0.45).float()
    glyphs = patterns.repeat_interleave(2, 1).repeat_interleave(2, 2)
    images = torch.zeros(classes, per_class, 1, size, size)
    places = torch.randint(1, 4, (classes, per_class, 2), generator=g).tolist()
    for c in range(classes):
        for i in range(per_class):
            top, left = places[c][i]
            images[c, i, 0, top : top + 10, left : left + 10] = glyphs[c]
    images += 0.2 * torch.randn(images.shape, generator=g)
    return (images - 0.25) / 0.45


class EpisodeSampler:
    def __init__(self, images, n_way, n_support, n_query, episodes, seed=None):
        self.images = images
        self.n_way, self.n_support, self.n_query = n_way, n_support, n_query
        self.episodes = episodes
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return self.episodes

    def __iter__(self):
        for _ in range(self.episodes):
            classes = self.rng.choice(len(self.images), self.n_way, replace=False).tolist()
            support, query = [], []
            for c in classes:
                chosen = self.rng.permutation(self.images.shape[1])[: self.n_support + self.n_query].tolist()
                support.append(self.images[c, chosen[: self.n_support]])
                query.append(self.images[c, chosen[self.n_support :]])
            yield torch.stack(support), torch.stack(query)


def conv_block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))


class ProtoNet(nn.Module):
    def __init__(self, hidden=24, dim=32):
        super().__init__()
        self.encoder = nn.Sequential(
            conv_block(1, hidden), conv_block(hidden, hidden), nn.Flatten(), nn.Linear(hidden * 9, dim)
        )

    def forward(self, support, query):
        n_way, n_support = support.shape[:2]
        n_query = query.shape[1]
        z = self.encoder(torch.cat([support.flatten(0, 1), query.flatten(0, 1)]))
        prototypes = z[: n_way * n_support].view(n_way, n_support, -1).mean(dim=1)
        queries = z[n_way * n_support :]
        logits = -(queries[:, None] - prototypes[None]).pow(2).sum(dim=-1)
        labels = torch.arange(n_way).repeat_interleave(n_query)
        return logits, labels


def run_episodes(model, sampler, optimizer=None):
    losses, accuracies = [], []
    model.train(optimizer is not None)
    with torch.set_grad_enabled(optimizer is not None):
        for support, query in sampler:
            logits, labels = model(support, query)
            loss = F.cross_entropy(logits, labels)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            losses.append(loss.item())
            accuracies.append((logits.argmax(dim=1) == labels).float().mean().item())
    return float(np.mean(losses)), float(np.mean(accuracies))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--n-way", type=int, default=5)
    parser.add_argument("--n-support", type=int, default=5)
    parser.add_argument("--n-query", type=int, default=5)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    images = make_signs(classes=80, per_class=20, seed=args.seed)
    base_images, novel_images = images[:60], images[60:]
    shape = (args.n_way, args.n_support, args.n_query)
    train_sampler = EpisodeSampler(base_images, *shape, episodes=args.episodes, seed=args.seed)

    model = ProtoNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    for epoch in range(1, args.epochs + 1):
        loss, accuracy = run_episodes(model, train_sampler, optimizer)
        scheduler.step()
        # the same episodes of novel classes each time, so that epochs can be compared
        val_sampler = EpisodeSampler(novel_images, *shape, episodes=20, seed=99)
        val_loss, val_accuracy = run_episodes(model, val_sampler)
        print(f"epoch {epoch}: train {loss:.3f} / {accuracy:.3f}  novel classes {val_loss:.3f} / {val_accuracy:.3f}")


if __name__ == "__main__":
    main()
