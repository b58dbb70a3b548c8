"""ArcFace embeddings of stamped seals; verification (same owner or not) of owners that were never trained on."""
import math
from itertools import combinations
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score, roc_curve
from torch.utils.data import DataLoader, TensorDataset

args = SimpleNamespace(owners=80, held_out=20, stamps=25, side=20, dim=32, scale=16.0, margin=0.3,
                       epochs=10, batch_size=64, lr=0.1, seed=11)


def make_stamps(args):
    """Each owner has a seal of 6 x 6 fields; each stamp is shifted, faded and dirty. Owners are numbered from 1."""
    g = torch.Generator().manual_seed(args.seed)
    seals = (torch.rand(args.owners, 6, 6, generator=g) < 0.5).float()
    images, owner_ids = [], []
    for owner in range(1, args.owners + 1):
        seal = seals[owner - 1].repeat_interleave(2, 0).repeat_interleave(2, 1)
        for _ in range(args.stamps):
            page = torch.zeros(args.side, args.side)
            y, x = torch.randint(3, 6, (2,), generator=g).tolist()
            page[y:y + 12, x:x + 12] = seal * (0.5 + 0.5 * torch.rand((), generator=g))
            images.append(page + 0.15 * torch.randn(page.shape, generator=g))
            owner_ids.append(owner)
    return torch.stack(images)[:, None], torch.tensor(owner_ids)


class Embedder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.PReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.PReLU(), nn.MaxPool2d(2),
        )
        self.drop = nn.Dropout(0.2)
        self.project = nn.Linear(32 * 25, dim)
        self.bn = nn.BatchNorm1d(dim)

    def forward(self, x):
        h = self.features(x).flatten(1)
        return F.normalize(self.bn(self.project(self.drop(h))), dim=1)


class ArcMargin(nn.Module):
    """cos(theta + m) for the right class, scaled."""

    def __init__(self, dim, n_classes, s, m):
        super().__init__()
        self.centers = nn.Parameter(torch.empty(n_classes, dim))
        nn.init.xavier_uniform_(self.centers)
        self.s, self.cos_m, self.sin_m = s, math.cos(m), math.sin(m)

    def forward(self, emb, label):
        cos = emb @ F.normalize(self.centers, dim=1).t()
        sin = (1 - cos.pow(2)).clamp(min=1e-6).sqrt()
        with_margin = cos * self.cos_m - sin * self.sin_m
        hot = F.one_hot(label, cos.shape[1]).bool()
        return self.s * torch.where(hot, with_margin, cos)


@torch.no_grad()
def embed_all(net, images, chunk=150):
    net.eval()
    return torch.cat([net(part) for part in images.split(chunk)])


def verification_pairs(owner_ids, per_kind=1500, seed=0):
    g = torch.Generator().manual_seed(seed)
    pairs = torch.tensor(list(combinations(range(len(owner_ids)), 2)))
    same = owner_ids[pairs[:, 0]] == owner_ids[pairs[:, 1]]
    chosen = []
    for kind in (True, False):
        candidates = (same == kind).nonzero().flatten()
        chosen.append(candidates[torch.randperm(len(candidates), generator=g)[:per_kind]])
    chosen = torch.cat(chosen)
    return pairs[chosen], same[chosen]


def verify(net, images, owner_ids, tune_owners):
    """Threshold from the owners of one half, accuracy on the pairs of the other."""
    emb = embed_all(net, images)
    scores = {}
    for part, mask in (("tune", torch.isin(owner_ids, tune_owners)), ("test", ~torch.isin(owner_ids, tune_owners))):
        pairs, same = verification_pairs(owner_ids[mask])
        e = emb[mask]
        scores[part] = ((e[pairs[:, 0]] * e[pairs[:, 1]]).sum(1), same)
    fpr, tpr, thresholds = roc_curve(scores["tune"][1].numpy(), scores["tune"][0].numpy())
    thr = float(thresholds[(tpr - fpr).argmax()])
    sim, same = scores["test"]
    return roc_auc_score(same.numpy(), sim.numpy()), ((sim > thr) == same).float().mean().item(), thr


torch.manual_seed(args.seed)
stamps, owner_ids = make_stamps(args)
n_known = args.owners - args.held_out
known = owner_ids <= n_known
train_labels = owner_ids[known] - 1
train_loader = DataLoader(TensorDataset(stamps[known], train_labels), batch_size=args.batch_size, shuffle=True)
probe_images, probe_ids = stamps[~known], owner_ids[~known]
tune_owners = probe_ids.unique()[::2]

net = Embedder(args.dim)
arc = ArcMargin(args.dim, n_known, args.scale, args.margin)
optimizer = torch.optim.SGD([*net.parameters(), *arc.parameters()], lr=args.lr, momentum=0.9, weight_decay=5e-4)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6, 9], gamma=0.2)
for epoch in range(args.epochs):
    net.train()
    total, right, seen = 0.0, 0, 0
    for image, label in train_loader:
        logits = arc(net(image), label)
        loss = F.cross_entropy(logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(label)
        right += (logits.argmax(1) == label).sum().item()
        seen += len(label)
    scheduler.step()
    auc, acc, thr = verify(net, probe_images, probe_ids, tune_owners)
    print(f"epoch {epoch} loss {total / seen:.3f} train acc {right / seen:.3f} | unseen owners: AUC {auc:.4f} acc {acc:.3f} at {thr:.2f}")
