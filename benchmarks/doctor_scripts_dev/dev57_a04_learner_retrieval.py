"""Metric learning on texture identities with a fastai-like Learner: DataLoaders, callbacks, fit_one_cycle."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

def make_identities(n_ids=20, per_id=40, size=16, seed=5):
    g = torch.Generator().manual_seed(seed)
    prototypes = F.interpolate(torch.randn(n_ids, 1, 5, 5, generator=g), size=(size, size), mode="bicubic")
    ids = torch.arange(n_ids).repeat_interleave(per_id)
    images = prototypes[ids].clone()
    for i in range(len(images)):
        dy, dx = torch.randint(-1, 2, (2,), generator=g).tolist()
        images[i] = images[i].roll((dy, dx), (-2, -1))
    gain = 0.7 + 0.6 * torch.rand(len(images), 1, 1, 1, generator=g)
    images = gain * images + 0.3 * torch.randn(images.shape, generator=g)
    return (images * 0.15 + 0.5).clamp(0, 1), ids

class IdentityDataset(Dataset):
    def __init__(self, images, ids):
        self.images, self.ids = images, ids

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return self.images[i], self.ids[i]

class PKSampler(Sampler):
    """Batches of p identities with k images each."""

    def __init__(self, labels, p=10, k=4):
        self.by_id = {}
        for position, label in enumerate(labels.tolist()):
            self.by_id.setdefault(label, []).append(position)
        self.p, self.k, self.n = p, k, len(labels)

    def __len__(self):
        return self.n // (self.p * self.k)

    def __iter__(self):
        for _ in range(len(self)):
            batch = []
            for label in random.sample(sorted(self.by_id), self.p):
                batch += random.sample(self.by_id[label], self.k)
            yield batch

class DataLoaders:
    def __init__(self, train, valid):
        self.train, self.valid = train, valid

    @classmethod
    def from_arrays(cls, images, ids, valid_pct=0.2, seed=42):
        ds = IdentityDataset(images, ids)
        perm = torch.randperm(len(ds), generator=torch.Generator().manual_seed(seed))
        cut = int(len(ds) * valid_pct)
        valid_idx, train_idx = perm[:cut], perm[cut:]
        sampler = PKSampler(ids[train_idx])
        return cls(DataLoader(Subset(ds, train_idx.tolist()), batch_sampler=sampler),
                   DataLoader(Subset(ds, valid_idx.tolist()), batch_size=64))

class Normalize:
    def __init__(self, mean=0.5, std=0.16):
        self.mean, self.std = mean, std

    def __call__(self, x, training):
        return (x - self.mean) / self.std

class GaussianNoise:
    def __init__(self, sigma=0.02):
        self.sigma = sigma

    def __call__(self, x, training):
        return x + self.sigma * torch.randn_like(x) if training else x

def conv_layer(ni, nf, stride=2):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, stride, 1, bias=False), nn.BatchNorm2d(nf), nn.ReLU(inplace=True))

class EmbeddingNet(nn.Module):
    def __init__(self, emb_size=32):
        super().__init__()
        self.body = nn.Sequential(conv_layer(1, 16, 1), conv_layer(16, 32), conv_layer(32, 32))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 4 * 4, emb_size))

    def forward(self, x):
        return F.normalize(self.head(self.body(x)), dim=1)

class BatchHardTriplet(nn.Module):
    def __init__(self, margin=0.3):
        super().__init__()
        self.margin = margin

    def forward(self, emb, ids):
        dist = torch.cdist(emb, emb)
        same = ids[:, None] == ids[None, :]
        eye = torch.eye(len(ids), dtype=torch.bool, device=ids.device)
        pos_idx = dist.masked_fill(~same | eye, -1.0).argmax(dim=1)
        neg_idx = dist.masked_fill(same, 10.0).argmin(dim=1)
        rows = torch.arange(len(ids), device=ids.device)
        d_pos, d_neg = dist[rows, pos_idx], dist[rows, neg_idx]
        return F.relu(d_pos - d_neg + self.margin).mean()

class Callback:
    def after_epoch(self, learn):
        pass

    def after_step(self, learn):
        pass

class Recorder(Callback):
    def __init__(self):
        self.lrs = []

    def after_step(self, learn):
        self.lrs.append(learn.opt.param_groups[0]["lr"])

    def after_epoch(self, learn):
        print(f"{learn.epoch:>3d}  train_loss {learn.train_loss:.4f}  recall@1 {learn.recall:.4f}  lr {self.lrs[-1]:.2e}")

class SaveBest(Callback):
    def __init__(self):
        self.best, self.state = -1.0, None

    def after_epoch(self, learn):
        if learn.recall > self.best:
            self.best = learn.recall
            self.state = {k: v.clone() for k, v in learn.model.state_dict().items()}

class Learner:
    def __init__(self, dls, model, loss_func, batch_tfms=(), cbs=()):
        self.dls, self.model, self.loss_func = dls, model, loss_func
        self.batch_tfms, self.cbs = list(batch_tfms), list(cbs)

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event)(self)

    def apply_tfms(self, x, training):
        for tfm in self.batch_tfms:
            x = tfm(x, training)
        return x

    def one_batch(self, xb, yb):
        loss = self.loss_func(self.model(self.apply_tfms(xb, True)), yb)
        loss.backward()
        self.opt.step()
        self.sched.step()
        self.opt.zero_grad()
        self("after_step")
        return loss.item()

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        pairs = [(self.model(self.apply_tfms(xb, False)), yb) for xb, yb in self.dls.valid]
        emb, ids = torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])
        dist = torch.cdist(emb, emb)
        dist.fill_diagonal_(float("inf"))
        return (ids[dist.argmin(dim=1)] == ids).float().mean().item()

    def fit_one_cycle(self, n_epoch, lr_max, wd=1e-2):
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=lr_max, weight_decay=wd)
        total = n_epoch * len(self.dls.train)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.opt, max_lr=lr_max, total_steps=total, pct_start=0.25)
        for self.epoch in range(n_epoch):
            self.model.train()
            losses = [self.one_batch(xb, yb) for xb, yb in self.dls.train]
            self.train_loss = sum(losses) / len(losses)
            self.recall = self.validate()
            self("after_epoch")

def main():
    random.seed(0)
    torch.manual_seed(0)
    images, ids = make_identities()
    dls = DataLoaders.from_arrays(images, ids)
    save = SaveBest()
    learn = Learner(dls, EmbeddingNet(), BatchHardTriplet(margin=0.3), batch_tfms=[GaussianNoise(), Normalize()], cbs=[Recorder(), save])
    learn.fit_one_cycle(12, lr_max=2e-3)
    learn.model.load_state_dict(save.state)
    print("best recall@1", round(save.best, 4))

if __name__ == "__main__":
    main()
