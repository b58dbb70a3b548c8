"""SimCLR on one-dimensional signals, then a linear probe on a few labels."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import waves

NOISE = 0.3  # on top of the noise of the generator


class TwoViews(Dataset):
    def __init__(self, signals):
        self.signals = signals

    def __len__(self):
        return len(self.signals)

    @staticmethod
    def augment(x):
        x = x.roll(int(torch.randint(0, x.shape[-1], ())), dims=-1)
        x = x * (0.7 + 0.6 * torch.rand(()))
        if torch.rand(()) < 0.5:
            x = -x
        return x + 0.1 * torch.randn_like(x)

    def __getitem__(self, i):
        x = self.signals[i]
        return self.augment(x), self.augment(x)


class Encoder(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 32, 7, padding=3), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(32, dim, 5, padding=2), nn.BatchNorm1d(dim), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(dim, dim, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.projector = nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x):
        return self.projector(self.features(x))


def nt_xent(a, b, temperature=0.2):
    z = F.normalize(torch.cat([a, b]), dim=1)
    n = len(a)
    sim = z @ z.T / temperature
    sim = sim.masked_fill(torch.eye(2 * n, dtype=torch.bool), -1e9)
    partner = torch.arange(2 * n).roll(n)
    return F.cross_entropy(sim, partner)


def pretrain(encoder, signals, epochs=14, batch_size=100):
    loader = DataLoader(TwoViews(signals), batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    encoder.train()
    for epoch in range(epochs):
        total = 0.0
        for view1, view2 in loader:
            # both views in one pass, so that they share the batch statistics
            za, zb = encoder(torch.cat([view1, view2])).chunk(2)
            loss = nt_xent(za, zb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        print(f"pretrain epoch {epoch + 1}: contrastive loss {total / len(loader):.3f}")


@torch.no_grad()
def embed(encoder, x):
    encoder.eval()
    return encoder.features(x)


def linear_probe(features, labels, test_features, test_labels, steps=200):
    mean, std = features.mean(0), features.std(0) + 1e-6
    features, test_features = (features - mean) / std, (test_features - mean) / std
    probe = nn.Linear(features.shape[1], 4)
    optimizer = torch.optim.SGD(probe.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for step in range(steps):
        loss = F.cross_entropy(probe(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return loss.item(), (probe(test_features).argmax(1) == test_labels).float().mean().item()


def noisy_waves(count, seed):
    x, y = waves(count, seed=seed)
    return x + NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(100 + seed)), y


def main():
    torch.manual_seed(0)
    unlabeled, _ = noisy_waves(1000, seed=1)
    few_x, few_y = noisy_waves(24, seed=2)
    test_x, test_y = noisy_waves(400, seed=3)
    encoder = Encoder()
    probe_before = linear_probe(embed(encoder, few_x), few_y, embed(encoder, test_x), test_y)
    pretrain(encoder, unlabeled)
    probe_after = linear_probe(embed(encoder, few_x), few_y, embed(encoder, test_x), test_y)
    print(f"probe accuracy: random encoder {probe_before[1]:.3f}, pretrained {probe_after[1]:.3f}")


if __name__ == "__main__":
    main()
