"""SimCLR on one-dimensional signals: pretrain without labels, then a linear probe on frozen features."""
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import waves

args = SimpleNamespace(epochs=12, batch_size=64, lr=2e-3, temperature=0.2, out_dim=32, n_views=2, log_every=4, seed=11)
torch.manual_seed(args.seed)


class ContrastiveViewGenerator:
    """Takes as many random views of one sample as wanted."""

    def __init__(self, base_transform, n_views=2):
        self.base_transform, self.n_views = base_transform, n_views

    def __call__(self, x):
        return [self.base_transform(x) for _ in range(self.n_views)]


def jitter(x):
    x = torch.roll(x, int(torch.randint(-16, 17, ())), dims=-1)
    x = x * (0.7 + 0.6 * torch.rand(())) + 0.15 * torch.randn_like(x)
    if torch.rand(()) < 0.5:
        x = -x
    start = int(torch.randint(0, 56, ()))
    x[..., start : start + 8] = 0.0
    return x


class Signals(Dataset):
    def __init__(self, count, seed, transform=None):
        self.signals, self.labels = waves(count, seed=seed)
        self.signals += 0.6 * torch.randn(self.signals.shape, generator=torch.Generator().manual_seed(seed))
        self.transform = transform

    def __len__(self):
        return len(self.signals)

    def __getitem__(self, i):
        x = self.signals[i].clone()
        return (self.transform(x) if self.transform else x), int(self.labels[i])


class Encoder(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(1, width, 7, stride=2, padding=3), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, 2 * width, 5, stride=2, padding=2), nn.BatchNorm1d(2 * width), nn.ReLU(),
            nn.Conv1d(2 * width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm1d(2 * width), nn.ReLU())
        self.dim = 2 * width

    def forward(self, x):
        return self.conv(x).mean(-1)


class SimCLR(nn.Module):
    def __init__(self, out_dim):
        super().__init__()
        self.backbone = Encoder()
        self.projector = nn.Sequential(nn.Linear(self.backbone.dim, 64), nn.ReLU(), nn.Linear(64, out_dim, bias=False))

    def forward(self, x):
        return self.projector(self.backbone(x))


def info_nce_loss(features, temperature):
    n = features.size(0) // args.n_views
    labels = torch.cat([torch.arange(n) for _ in range(args.n_views)], dim=0)
    labels = (labels.unsqueeze(0) == labels.unsqueeze(1)).float()
    features = F.normalize(features, dim=1)
    similarity = features @ features.T
    # discard the main diagonal from both: labels and similarities
    mask = torch.eye(len(labels), dtype=torch.bool)
    labels = labels[~mask].view(len(labels), -1)
    similarity = similarity[~mask].view(len(similarity), -1)
    positives = similarity[labels.bool()].view(len(labels), -1)
    negatives = similarity[~labels.bool()].view(len(labels), -1)
    logits = torch.cat([positives, negatives], dim=1) / temperature
    return logits, torch.zeros(len(logits), dtype=torch.long)  # the positive stands first


class Trainer:
    def __init__(self, model, optimizer, scheduler):
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.criterion = nn.CrossEntropyLoss()

    def train(self, loader):
        for epoch in range(args.epochs):
            hits = seen = 0
            for views, _ in loader:
                logits, labels = info_nce_loss(self.model(torch.cat(views, dim=0)), args.temperature)
                loss = self.criterion(logits, labels)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                hits += (logits.argmax(1) == labels).sum().item()
                seen += len(labels)
            if epoch >= 2:  # the first epochs run at the full rate
                self.scheduler.step()
            if epoch % args.log_every == args.log_every - 1:
                print(f"epoch {epoch} loss {loss.item():.3f} top1 {hits / seen:.3f}")


def linear_probe(backbone, epochs=60):
    backbone.eval().requires_grad_(False)
    probe = nn.Linear(backbone.dim, 4)
    train, test = Signals(32, seed=3), Signals(400, seed=4)
    optimizer = torch.optim.Adam(probe.parameters(), lr=1e-2)
    for _ in range(epochs):
        for x, y in DataLoader(train, batch_size=16, shuffle=True):
            with torch.no_grad():
                h = backbone(x)
            loss = F.cross_entropy(probe(h), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        correct = sum((probe(backbone(x)).argmax(1) == y).sum().item() for x, y in DataLoader(test, batch_size=100))
    return correct / len(test)


dataset = Signals(1000, seed=0, transform=ContrastiveViewGenerator(jitter, args.n_views))
loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
model = SimCLR(args.out_dim)
optimizer = torch.optim.Adam(model.parameters(), args.lr, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs - 2)
print(f"probe on random features {linear_probe(Encoder()):.3f}")
Trainer(model, optimizer, scheduler).train(loader)
print(f"probe on learned features {linear_probe(model.backbone):.3f}")
