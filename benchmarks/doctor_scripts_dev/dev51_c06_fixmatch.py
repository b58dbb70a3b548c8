# Semi-supervised digits: 150 labels, 1050 images without, pseudo-labels for those the network is sure of.
import os
import random
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import toydata


class CFG:
    seed = 2023
    n_labeled = 150
    bs = 32
    bs_unlabeled = 96
    epochs = 14
    lr = 3e-3
    wd = 1e-3
    threshold = 0.9
    ramp_epochs = 4
    out_dir = tempfile.mkdtemp()


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# ====================================================
# Data
# ====================================================
train_ds, valid_ds = toydata.Digits(train=True), toydata.Digits(train=False)
X, y = train_ds.data.float() / 255, train_ds.targets
X_val, y_val = valid_ds.data.float() / 255, valid_ds.targets

labeled_rows, unlabeled_rows = train_test_split(
    np.arange(len(X)), train_size=CFG.n_labeled, stratify=y.numpy(), random_state=CFG.seed
)
unlabeled_loader = DataLoader(
    TensorDataset(X[unlabeled_rows]), batch_size=CFG.bs_unlabeled, shuffle=True, drop_last=True
)
labeled_set = TensorDataset(X[labeled_rows], y[labeled_rows])
labeled_loader = DataLoader(
    labeled_set,
    batch_size=CFG.bs,
    sampler=RandomSampler(labeled_set, replacement=True, num_samples=CFG.bs * len(unlabeled_loader)),
)
valid_loader = DataLoader(TensorDataset(X_val, y_val), batch_size=100, shuffle=False)


# ====================================================
# Augmentation (of whole batches, each image in its own way)
# ====================================================
def weak(x):
    n, _, h, w = x.shape
    top, left = torch.randint(0, 3, (2, n))
    rows = top[:, None] + torch.arange(h)
    cols = left[:, None] + torch.arange(w)
    padded = F.pad(x, (1, 1, 1, 1)).squeeze(1)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]].unsqueeze(1)


def strong(x):
    x = weak(x)
    n, _, h, w = x.shape
    x = x * (0.7 + 0.5 * torch.rand(n, 1, 1, 1)) + 0.15 * torch.randn_like(x)
    cy, cx = torch.randint(0, h, (n, 1, 1, 1)), torch.randint(0, w, (n, 1, 1, 1))
    hole = ((torch.arange(h).view(1, 1, h, 1) - cy).abs() < 2) & ((torch.arange(w).view(1, 1, 1, w) - cx).abs() < 2)
    return x.masked_fill(hole, 0.0).clamp(0, 1)


# ====================================================
# Model
# ====================================================
class Net(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        chans = [1, 16, 32, 64]
        blocks = []
        for a, b in zip(chans[:-1], chans[1:]):
            blocks += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
        self.backbone = nn.Sequential(*blocks, nn.Flatten())
        self.head = nn.Linear(64 * 2 * 2, 10)

    def forward(self, x):
        return self.head(self.backbone((x - self.mean) / self.std))


def valid_fn(model):
    model.eval()
    preds = []
    with torch.no_grad():
        for xb, _ in valid_loader:
            preds.append(model(xb).argmax(1))
    preds = torch.cat(preds).numpy()
    return accuracy_score(y_val.numpy(), preds), preds


# ====================================================
# Train loop
# ====================================================
model = Net(X.mean(), X.std())
optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.wd)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG.epochs * len(unlabeled_loader), eta_min=1e-5)

for epoch in range(CFG.epochs):
    model.train()
    lam = min(1.0, epoch / CFG.ramp_epochs)
    sup, unsup, used = [], [], []
    for (xb, yb), (ub,) in zip(labeled_loader, unlabeled_loader):
        n, m = len(xb), len(ub)
        logits = model(torch.cat([weak(xb), weak(ub), strong(ub)]))
        logits_x, logits_w, logits_s = logits.split([n, m, m])
        confidence, guess = logits_w.detach().softmax(dim=1).max(dim=1)
        sure = (confidence >= CFG.threshold).float()
        loss_x = F.cross_entropy(logits_x, yb)
        loss_u = (F.cross_entropy(logits_s, guess, reduction="none") * sure).mean()
        loss = loss_x + lam * loss_u
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        sup.append(loss_x.item()), unsup.append(loss_u.item()), used.append(sure.mean().item())
    score, preds = valid_fn(model)
    print(
        f"Epoch {epoch + 1} - sup {np.mean(sup):.4f}  unsup {np.mean(unsup):.4f}  "
        f"sure {np.mean(used):.2f}  val_acc {score:.4f}"
    )

submission = pd.DataFrame({"id": np.arange(len(preds)), "label": preds})
submission.to_csv(os.path.join(CFG.out_dir, "submission.csv"), index=False)
torch.save(model.state_dict(), os.path.join(CFG.out_dir, "last.pth"))
print(f"CV: {score:.4f}")
