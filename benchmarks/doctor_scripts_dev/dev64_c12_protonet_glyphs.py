"""Few-shot learning with prototypical networks (Snell et al.): episodes of glyphs, tested on glyphs never trained on."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Glyphs(Dataset):
    """Random 4 x 4 patterns, one a class, drawn larger with noise and small displacements (in the place of Omniglot)."""

    def __init__(self, classes, per_class=20, size=14, seed=0):
        rng = np.random.default_rng(seed)
        self.images, self.labels = [], []
        for label in range(classes):
            pattern = np.zeros(16, np.float32)
            pattern[rng.permutation(16)[:7]] = 1.0
            glyph = pattern.reshape(4, 4).repeat(2, 0).repeat(2, 1)
            for _ in range(per_class):
                canvas = np.zeros((size, size), np.float32)
                top, left = rng.integers(2, 5, 2)
                canvas[top : top + 8, left : left + 8] = glyph * rng.uniform(0.7, 1.0)
                canvas += 0.25 * rng.standard_normal((size, size)).astype(np.float32)
                self.images.append(torch.from_numpy(canvas)[None])
                self.labels.append(label)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


class PrototypicalBatchSampler:
    """Yields the indices of episodes: of each of `n_way` classes, `n_samples` images."""

    def __init__(self, labels, n_way, n_samples, iterations):
        labels = torch.tensor(labels)
        self.by_class = [torch.where(labels == c)[0] for c in labels.unique()]
        self.n_way, self.n_samples, self.iterations = n_way, n_samples, iterations

    def __len__(self):
        return self.iterations

    def __iter__(self):
        for _ in range(self.iterations):
            batch = []
            for c in torch.randperm(len(self.by_class))[: self.n_way].tolist():
                members = self.by_class[c]
                batch.append(members[torch.randperm(len(members))[: self.n_samples]])
            yield torch.cat(batch).tolist()


def conv_block(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(), nn.MaxPool2d(2)
    )


class ProtoNet(nn.Module):
    def __init__(self, hid_dim=32, z_dim=32):
        super().__init__()
        self.encoder = nn.Sequential(conv_block(1, hid_dim), conv_block(hid_dim, hid_dim))
        self.project = nn.Linear(hid_dim * 9, z_dim)

    def forward(self, x):
        return self.project(self.encoder(x).flatten(1))


def euclidean_dist(x, y):
    """Squared distances, mean over the dimensions: queries by prototypes."""
    return (x.unsqueeze(1) - y.unsqueeze(0)).pow(2).mean(2)


def run_episode(model, images, opt):
    n_samples = opt.shots + opt.queries
    z = model(images).view(opt.n_way, n_samples, -1)
    prototypes = z[:, : opt.shots].mean(1)
    queries = z[:, opt.shots :].reshape(opt.n_way * opt.queries, -1)
    target = torch.arange(opt.n_way).repeat_interleave(opt.queries)
    scores = -euclidean_dist(queries, prototypes)
    loss = F.cross_entropy(scores, target)
    acc = (scores.argmax(1) == target).float().mean()
    return loss, acc


def train_epoch(opt, loader, model, optim):
    model.train()
    losses, accs = [], []
    for images, _ in loader:
        optim.zero_grad()
        loss, acc = run_episode(model, images, opt)
        loss.backward()
        optim.step()
        losses.append(loss.item())
        accs.append(acc.item())
    return np.mean(losses), np.mean(accs)


@torch.no_grad()
def evaluate(opt, loader, model):
    model.eval()
    return np.mean([run_episode(model, images, opt)[1].item() for images, _ in loader])


def get_parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=30, help="episodes an epoch")
    parser.add_argument("--n_way", type=int, default=5)
    parser.add_argument("--shots", type=int, default=3)
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--gamma", type=float, default=0.5)
    return parser


def main():
    opt = get_parser().parse_args()
    torch.manual_seed(3)
    train_set, val_set = Glyphs(classes=60, seed=0), Glyphs(classes=20, seed=1)

    def episodes(dataset, iterations):
        sampler = PrototypicalBatchSampler(dataset.labels, opt.n_way, opt.shots + opt.queries, iterations)
        return DataLoader(dataset, batch_sampler=sampler)

    train_loader, val_loader = episodes(train_set, opt.iterations), episodes(val_set, 20)
    model = ProtoNet()
    optim = torch.optim.Adam(model.parameters(), lr=opt.lr)
    lr_scheduler = torch.optim.lr_scheduler.StepLR(optim, step_size=3, gamma=opt.gamma)
    best_acc, best_state = 0.0, None
    for epoch in range(opt.epochs):
        loss, acc = train_epoch(opt, train_loader, model, optim)
        lr_scheduler.step()
        val_acc = evaluate(opt, val_loader, model)
        if val_acc >= best_acc:
            best_acc, best_state = val_acc, {k: v.clone() for k, v in model.state_dict().items()}
        print(f"=== Epoch {epoch}: loss {loss:.4f}, acc {acc:.3f}, new classes {val_acc:.3f}")
    model.load_state_dict(best_state)
    print(f"best: {best_acc:.3f}, once more: {evaluate(opt, val_loader, model):.3f}")


if __name__ == "__main__":
    main()
