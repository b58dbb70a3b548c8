# %% [markdown]
# # Waves: 1D CNN baseline (AMP + OneCycle + mixup), fold 0 only
import os
import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset

import toydata


# %%
class CFG:
    seed = 42
    n_fold = 5
    fold = 0
    epochs = 12
    train_bs = 32
    valid_bs = 64
    max_lr = 0.05
    momentum = 0.9
    weight_decay = 5e-4
    max_grad_norm = 2.0
    mixup_alpha = 0.2
    amp = True
    n_classes = 4
    output_dir = tempfile.mkdtemp()


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# %%
class WaveDataset(Dataset):
    def __init__(self, signals, labels, train=False):
        self.signals = signals
        self.labels = labels
        self.train = train

    def __len__(self):
        return len(self.signals)

    def __getitem__(self, idx):
        x = self.signals[idx].clone()
        if self.train:
            x = torch.roll(x, np.random.randint(-4, 5), dims=-1)
            x = x * np.random.uniform(0.8, 1.2)
            x = x + 0.05 * torch.randn_like(x)
        return x, self.labels[idx]


def mixup(x, y, alpha):
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(x.size(0))
    mixed = lam * x + (1 - lam) * x[index]
    return mixed, y, y[index], lam


# %%
class WaveNet1D(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.block1 = self.block(1, 32, 7)
        self.block2 = self.block(32, 64, 7)
        self.block3 = self.block(64, 64, 5)
        self.pool = nn.MaxPool1d(2)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(64, n_classes)

    @staticmethod
    def block(c_in, c_out, k):
        return nn.Sequential(nn.Conv1d(c_in, c_out, k, padding=k // 2, bias=False), nn.BatchNorm1d(c_out), nn.ReLU())

    def forward(self, x):
        x = self.pool(self.block1(x))
        x = self.pool(self.block2(x))
        x = self.block3(x).mean(dim=-1)
        return self.head(self.drop(x))


# %%
def train_fn(loader, model, criterion, optimizer, scheduler, scaler):
    model.train()
    losses = []
    for step, (x, y) in enumerate(loader):
        x, y_a, y_b, lam = mixup(x, y, CFG.mixup_alpha)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=CFG.amp):
            logits = model(x).float()
        loss = lam * criterion(logits, y_a) + (1 - lam) * criterion(logits, y_b)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        losses.append(loss.item())
    return np.mean(losses)


def valid_fn(loader, model, criterion):
    model.eval()
    running, hits = 0.0, 0
    for x, y in loader:
        with torch.no_grad():
            logits = model(x)
        running += criterion(logits, y).item() * len(y)
        hits += (logits.argmax(1) == y).sum().item()
    return running / len(loader.dataset), hits / len(loader.dataset)


# %%
seed_everything(CFG.seed)
signals, labels = toydata.waves(count=1120)
folds = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
trn_idx, val_idx = list(folds.split(signals.numpy(), labels.numpy()))[CFG.fold]

train_loader = DataLoader(
    WaveDataset(signals[trn_idx], labels[trn_idx], train=True), batch_size=CFG.train_bs, shuffle=True, drop_last=True
)
valid_loader = DataLoader(WaveDataset(signals[val_idx], labels[val_idx]), batch_size=CFG.valid_bs, shuffle=False)

# %%
model = WaveNet1D(CFG.n_classes)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(
    model.parameters(), lr=CFG.max_lr, momentum=CFG.momentum, weight_decay=CFG.weight_decay, nesterov=True
)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader)
)
scaler = torch.amp.GradScaler("cpu", enabled=CFG.amp)

best_score = 0.0
best_path = os.path.join(CFG.output_dir, f"wavenet1d_fold{CFG.fold}_best.pth")
for epoch in range(CFG.epochs):
    avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler, scaler)
    val_loss, score = valid_fn(valid_loader, model, criterion)
    print(f"Epoch {epoch + 1} - avg_train_loss: {avg_loss:.4f}  avg_val_loss: {val_loss:.4f}  acc: {score:.4f}")
    if score > best_score:
        best_score = score
        torch.save(model.state_dict(), best_path)
        print(f"Epoch {epoch + 1} - Save Best Score: {best_score:.4f} Model")

# %%
model.load_state_dict(torch.load(best_path))
_, cv = valid_fn(valid_loader, model, criterion)
print(f"========== fold: {CFG.fold} CV: {cv:.4f} ==========")
