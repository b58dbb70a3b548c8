"""Competition notebook: tabular with categorical embeddings, log target, RMSLE, 4 folds, out-of-fold predictions, early stopping."""
import copy
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

from toydata import houses

class CFG:
    seed = 2021
    n_fold = 4
    epochs = 40
    lr = 1e-2
    bs = 64
    patience = 6
    debug = False

def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

seed_everything(CFG.seed)
X, price = houses(1000)
area = np.random.randint(0, 6, len(X))           # categorical with an effect
kind = np.random.randint(0, 3, len(X))
factor = np.array([0.7, 0.85, 1.0, 1.1, 1.3, 1.6])[area] * np.array([1.0, 1.2, 0.9])[kind]
price = price.numpy().clip(20) * factor * 1000
X = X.numpy() * np.array([1, 10, 1, 1, 1, 100, 1, 0.1]) + np.array([0, 50, 0, 0, 0, 1000, 0, 3])   # raw units

class HouseDataset(Dataset):
    def __init__(self, num, cat, y=None):
        self.num, self.cat, self.y = num.astype(np.float32), cat.astype(np.int64), y

    def __len__(self):
        return len(self.num)

    def __getitem__(self, idx):
        item = {'x_num': self.num[idx], 'x_cat': self.cat[idx]}
        if self.y is not None:
            item['y'] = np.float32(self.y[idx])
        return item

class TabNN(nn.Module):
    def __init__(self, cards=(6, 3), n_num=8, h=96):
        super().__init__()
        self.embs = nn.ModuleList([nn.Embedding(c, 4) for c in cards])
        self.mlp = nn.Sequential(nn.Linear(n_num + 4 * len(cards), h), nn.Mish(), nn.Dropout(0.05),
                                 nn.utils.parametrizations.weight_norm(nn.Linear(h, h)), nn.Mish(), nn.Linear(h, 1))

    def forward(self, x_num, x_cat):
        e = [emb(x_cat[:, i]) for i, emb in enumerate(self.embs)]
        return self.mlp(torch.cat([x_num, *e], 1)).squeeze(-1)

def train_fn(model, loader, optimizer):
    model.train()
    final = 0
    for data in loader:
        optimizer.zero_grad()
        loss = nn.MSELoss()(model(data['x_num'], data['x_cat']), data['y'])
        loss.backward()
        optimizer.step()
        final += loss.item() / len(loader)
    return final

def inference_fn(model, loader):
    model.eval()
    preds = []
    for data in loader:
        with torch.no_grad():
            preds.append(model(data['x_num'], data['x_cat']).detach().cpu().numpy())
    return np.concatenate(preds)

def run_fold(fold, trn, val):
    sc = StandardScaler().fit(X[trn])
    y_log = np.log1p(price)
    mean, std = y_log[trn].mean(), y_log[trn].std()
    cat = np.stack([area, kind], 1)
    tr_dl = DataLoader(HouseDataset(sc.transform(X[trn]), cat[trn], (y_log[trn] - mean) / std), batch_size=CFG.bs, shuffle=True)
    va_dl = DataLoader(HouseDataset(sc.transform(X[val]), cat[val]), batch_size=256)
    model = TabNN()
    decay = [p for n, p in model.named_parameters() if p.ndim > 1]
    rest = [p for n, p in model.named_parameters() if p.ndim <= 1]
    opt = torch.optim.AdamW([{'params': decay, 'weight_decay': 1e-2}, {'params': rest, 'weight_decay': 0}], lr=CFG.lr)
    sched = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.4, patience=2)
    best, best_w, bad = 1e9, None, 0
    for epoch in range(CFG.epochs):
        tl = train_fn(model, tr_dl, opt)
        rmsle = float(np.sqrt(np.mean((inference_fn(model, va_dl) * std + mean - y_log[val]) ** 2)))
        sched.step(rmsle)
        if rmsle < best:
            best, best_w, bad = rmsle, copy.deepcopy(model.state_dict()), 0
        else:
            bad += 1
            if bad >= CFG.patience:
                break
        if epoch % 5 == 0:
            print(f'FOLD {fold} EPOCH {epoch}: train {tl:.4f} rmsle {rmsle:.4f}')
    model.load_state_dict(best_w)
    return np.expm1(inference_fn(model, va_dl) * std + mean), best

oof = np.zeros(len(X))
for fold, (trn, val) in enumerate(KFold(CFG.n_fold, shuffle=True, random_state=CFG.seed).split(X)):
    oof[val], score = run_fold(fold, trn, val)
    print(f'fold {fold} best {score:.4f}')
print('OOF RMSLE', np.sqrt(np.mean((np.log1p(oof) - np.log1p(price)) ** 2)), 'constant', np.log1p(price).std())
print('OOF R2', 1 - ((oof - price) ** 2).sum() / ((price - price.mean()) ** 2).sum())
