"""SimCLR with NT-Xent, view generator in the dataset, then a linear probe on the frozen encoder."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Digits

N_VIEWS, TEMP = 2, 0.2


class ContrastiveViews(Dataset):
    def __init__(self, base):
        self.base = base

    def augment(self, img):
        img = img.float() / 255
        dy, dx = torch.randint(-2, 3, (2,)).tolist()
        img = torch.roll(img, (dy, dx), (1, 2)) * (0.7 + 0.6 * torch.rand(()))
        return img + 0.1 * torch.randn_like(img)

    def __len__(self):
        return len(self.base)

    def __getitem__(self, i):
        img, target = self.base[i]
        return [self.augment(img) for _ in range(N_VIEWS)], target


class Encoder(nn.Module):
    def __init__(self, out_dim=32):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 96))
        self.fc = nn.Sequential(nn.ReLU(), nn.Linear(96, out_dim))

    def forward(self, x):
        return self.fc(self.backbone(x))


def info_nce_loss(features):
    n = features.shape[0] // N_VIEWS
    labels = torch.cat([torch.arange(n) for _ in range(N_VIEWS)])
    labels = (labels[:, None] == labels[None]).float()
    features = F.normalize(features, dim=1)
    sim = features @ features.T
    eye = torch.eye(len(labels), dtype=torch.bool)
    labels, sim = labels[~eye].view(len(eye), -1), sim[~eye].view(len(eye), -1)
    positives, negatives = sim[labels.bool()].view(len(eye), -1), sim[~labels.bool()].view(len(eye), -1)
    logits = torch.cat([positives, negatives], 1) / TEMP
    return logits, torch.zeros(len(logits), dtype=torch.long)


def features_of(model, ds):
    model.eval()
    with torch.no_grad():
        out = [(model.backbone(x.float() / 255), y) for x, y in DataLoader(ds, 200)]
    return torch.cat([f for f, _ in out]), torch.cat([y for _, y in out])


def linear_probe(model, train_ds, test_ds):
    (xa, ya), (xb, yb) = features_of(model, train_ds), features_of(model, test_ds)
    mu, sd = xa.mean(0), xa.std(0) + 1e-5
    xa, xb = (xa - mu) / sd, (xb - mu) / sd
    head = nn.Linear(xa.size(1), 10)
    opt = torch.optim.Adam(head.parameters(), lr=1e-2, weight_decay=1e-4)
    for _ in range(60):
        opt.zero_grad()
        F.cross_entropy(head(xa), ya).backward()
        opt.step()
    return (head(xb).argmax(1) == yb).float().mean().item()


torch.manual_seed(0)
train_ds, test_ds = Digits(True), Digits(False)
loader = DataLoader(ContrastiveViews(train_ds), batch_size=100, shuffle=True, drop_last=True)
model = Encoder()
optimizer = torch.optim.Adam(model.parameters(), 2e-3, weight_decay=1e-4)
warm = len(loader)
scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [
    torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=warm),
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9 * len(loader))], milestones=[warm])
criterion = nn.CrossEntropyLoss()
print("linear probe on random features", linear_probe(model, train_ds, test_ds))
for epoch in range(10):
    model.train()
    top1, losses = [], []
    for images, _ in loader:
        logits, labels = info_nce_loss(model(torch.cat(images, dim=0)))
        loss = criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        top1.append((logits.argmax(1) == labels).float().mean().item())
    print(f"Epoch: {epoch}\tLoss: {sum(losses) / len(losses):.3f}\tTop1: {sum(top1) / len(top1):.3f}")
print("linear probe accuracy", linear_probe(model, train_ds, test_ds))
