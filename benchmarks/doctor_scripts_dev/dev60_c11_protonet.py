"""Prototypical networks: few-shot classification of glyphs, tested on glyphs that training never had."""

import argparse
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F


def draw_glyphs(classes, per_class, seed, noise=0.7):
    """Each class is a pattern of 4 x 4 fields, shown shifted and noisy: (classes, per_class, 1, 12, 12)."""
    g = torch.Generator().manual_seed(seed)
    patterns = (torch.rand(classes, 4, 4, generator=g) < 0.5).float() * 2 - 1
    patterns = patterns.repeat_interleave(3, 1).repeat_interleave(3, 2)
    images = torch.empty(classes, per_class, 1, 12, 12)
    for c in range(classes):
        for k in range(per_class):
            shift = torch.randint(-2, 3, (2,), generator=g).tolist()
            images[c, k, 0] = patterns[c].roll(shift, (0, 1))
    return images + noise * torch.randn(images.shape, generator=g)


class EpisodeSampler:
    def __init__(self, images, n_way, k_shot, n_query):
        self.images, self.n_way, self.k_shot, self.n_query = images, n_way, k_shot, n_query

    def sample(self):
        classes = torch.randperm(len(self.images))[: self.n_way]
        support, query = [], []
        for c in classes:
            chosen = torch.randperm(self.images.size(1))[: self.k_shot + self.n_query]
            support.append(self.images[c, chosen[: self.k_shot]])
            query.append(self.images[c, chosen[self.k_shot :]])
        labels = torch.arange(self.n_way).repeat_interleave(self.n_query)
        return torch.stack(support), torch.cat(query), labels


class Encoder(nn.Module):
    def __init__(self, hidden=32, out=32):
        super().__init__()
        self.blocks = nn.Sequential(self.block(1, hidden), nn.MaxPool2d(2), self.block(hidden, hidden), nn.MaxPool2d(2))
        self.project = nn.Linear(hidden * 9, out)

    @staticmethod
    def block(inp, out):
        return nn.Sequential(nn.Conv2d(inp, out, 3, padding=1), nn.GroupNorm(4, out), nn.ReLU())

    def forward(self, x):
        return self.project(self.blocks(x).flatten(1))


def prototypes(encoder, support):
    n_way, k_shot = support.shape[:2]
    return encoder(support.flatten(0, 1)).view(n_way, k_shot, -1).mean(dim=1)


def proto_logits(encoder, support, query):
    centers = prototypes(encoder, support)
    embedded = encoder(query)
    return -((embedded[:, None, :] - centers[None, :, :]) ** 2).mean(dim=2) * 4


def classify(encoder, support, query):
    """Predictions for the queries of an episode with new classes."""
    with torch.no_grad():
        return proto_logits(encoder, support, query).argmax(dim=1)


def evaluate(encoder, sampler, episodes):
    encoder.eval()
    correct = total = 0
    for _ in range(episodes):
        support, query, labels = sampler.sample()
        predicted = classify(encoder, support, query)
        correct += (predicted == labels).sum().item()
        total += len(labels)
    return correct / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--episodes", type=int, default=40, help="episodes of an epoch")
    parser.add_argument("--val-episodes", type=int, default=30)
    parser.add_argument("--n-way", type=int, default=5)
    parser.add_argument("--k-shot", type=int, default=5)
    parser.add_argument("--n-query", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    episode = (args.n_way, args.k_shot, args.n_query)
    train_sampler = EpisodeSampler(draw_glyphs(60, 20, seed=1), *episode)
    val_sampler = EpisodeSampler(draw_glyphs(15, 20, seed=2), *episode)

    encoder = Encoder()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)
    print(f"untrained: accuracy on new classes {evaluate(encoder, val_sampler, args.val_episodes):.3f}")

    best_acc, best_state = 0.0, None
    for epoch in range(args.epochs):
        encoder.train()
        total_loss = total_acc = 0.0
        for _ in range(args.episodes):
            support, query, labels = train_sampler.sample()
            logits = proto_logits(encoder, support, query)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total_loss += loss.item()
            total_acc += (logits.argmax(dim=1) == labels).float().mean().item()
        scheduler.step()
        acc = evaluate(encoder, val_sampler, args.val_episodes)
        if acc > best_acc:
            best_acc, best_state = acc, copy.deepcopy(encoder.state_dict())
        print(
            f"epoch {epoch + 1}: loss {total_loss / args.episodes:.4f}  train acc {total_acc / args.episodes:.3f}  "
            f"new classes {acc:.3f}"
        )
    encoder.load_state_dict(best_state)
    print(f"best accuracy on new classes {best_acc:.3f}")


if __name__ == "__main__":
    main()
