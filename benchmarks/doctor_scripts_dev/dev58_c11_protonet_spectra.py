"""Few-shot classification of spectra with prototypical networks, after jakesnell/prototypical-networks."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F


class Spectra:
    """Substances, each with its own mixture of six bands; drifts of the instrument hide them."""

    def __init__(self, bands=6, drifts=10, length=64, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.bands = torch.randn(bands, length, generator=generator) / bands**0.5
        self.drifts = torch.randn(drifts, length, generator=generator) / drifts**0.5

    def sample(self, classes, per_class, seed):
        generator = torch.Generator().manual_seed(seed)
        mixtures = torch.randn(classes, 1, len(self.bands), generator=generator)
        within = 0.2 * torch.randn(classes, per_class, len(self.bands), generator=generator)
        drift = 2.0 * torch.randn(classes, per_class, len(self.drifts), generator=generator)
        clean = (mixtures + within) @ self.bands + drift @ self.drifts
        return clean + 0.1 * torch.randn(clean.shape, generator=generator)


class EpisodeSampler:
    """Yields support and query sets: (way, shot, length) and (way, query, length)."""

    def __init__(self, data, n_way, n_support, n_query, n_episodes, generator=None):
        self.data = data
        self.n_way, self.n_support, self.n_query = n_way, n_support, n_query
        self.n_episodes = n_episodes
        self.generator = generator

    def __len__(self):
        return self.n_episodes

    def __iter__(self):
        total = self.n_support + self.n_query
        for _ in range(self.n_episodes):
            classes = torch.randperm(len(self.data), generator=self.generator)[: self.n_way]
            rows = []
            for c in classes.tolist():
                picked = torch.randperm(self.data.shape[1], generator=self.generator)[:total]
                rows.append(self.data[c, picked])
            episode = torch.stack(rows)
            yield episode[:, : self.n_support], episode[:, self.n_support :]


def euclidean_dist(x, y):
    """Squared distances of each of n rows of x to each of m rows of y: (n, m)."""
    return torch.pow(x.unsqueeze(1) - y.unsqueeze(0), 2).sum(2)


class Protonet(nn.Module):
    def __init__(self, length, hidden, z_dim):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(length, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, z_dim)
        )
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, xs, xq):
        n_class = xs.shape[0]
        z = self.encoder(torch.cat([xs.flatten(0, 1), xq.flatten(0, 1)]))
        n_support = xs.shape[0] * xs.shape[1]
        prototypes = z[:n_support].view(n_class, xs.shape[1], -1).mean(1)
        queries = z[n_support:]
        return -self.scale * euclidean_dist(queries, prototypes)


def episode_loss(model, xs, xq):
    logits = model(xs, xq)
    n_class, n_query = xq.shape[:2]
    target = torch.arange(n_class).repeat_interleave(n_query)
    loss = F.cross_entropy(logits, target)
    accuracy = (logits.argmax(1) == target).float().mean()
    return loss, accuracy


@torch.no_grad()
def evaluate(model, sampler):
    model.eval()
    values = torch.tensor([[part.item() for part in episode_loss(model, xs, xq)] for xs, xq in sampler])
    return values.mean(0).tolist()


def main():
    parser = argparse.ArgumentParser(description="Train prototypical networks")
    parser.add_argument("--way", type=int, default=8)
    parser.add_argument("--shot", type=int, default=3)
    parser.add_argument("--query", type=int, default=6)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--z_dim", type=int, default=24)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--decay_every", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    spectra = Spectra(seed=args.seed)
    train_data = spectra.sample(80, 20, seed=1)  # the substances of validation are others
    val_data = spectra.sample(20, 15, seed=2)
    mean, std = train_data.mean(), train_data.std()
    train_data, val_data = (train_data - mean) / std, (val_data - mean) / std
    train_sampler = EpisodeSampler(train_data, args.way, args.shot, args.query, args.episodes)

    model = Protonet(train_data.shape[2], args.hidden, args.z_dim)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, args.decay_every, gamma=0.5)
    for epoch in range(1, args.epochs + 1):
        model.train()
        total_loss = total_acc = 0.0
        for xs, xq in train_sampler:
            optimizer.zero_grad()
            loss, acc = episode_loss(model, xs, xq)
            loss.backward()
            optimizer.step()
            total_loss += loss.item()
            total_acc += acc.item()
        scheduler.step()
        generator = torch.Generator().manual_seed(99)  # the same episodes each time
        val_sampler = EpisodeSampler(val_data, args.way, args.shot, args.query, 40, generator)
        val_loss, val_acc = evaluate(model, val_sampler)
        n = len(train_sampler)
        print(f"Epoch {epoch:02d}: train loss = {total_loss / n:.4f}, acc = {total_acc / n:.4f}, ", end="")
        print(f"val loss = {val_loss:.4f}, acc = {val_acc:.4f}")


if __name__ == "__main__":
    main()
