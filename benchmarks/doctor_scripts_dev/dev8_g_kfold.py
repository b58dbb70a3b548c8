# %% [markdown]
# Leaf disease (generated): 16x16 RGB crops + tabular columns, 4 folds, OOF, TTA
# %%
import random
import warnings
from copy import deepcopy

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

warnings.filterwarnings('ignore')


class CFG:
    seed = 42
    n_fold = 4
    epochs = 6
    batch_size = 48
    lr = 3e-3
    wd = 1e-3
    patience = 4
    num_cols = ['area', 'humidity', 'temp', 'price']
    device = 'cpu'


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)


# %% data: a dict of columns, pixels as flat rows like the competition's csv
def make_split(n, seed):
    rng = np.random.default_rng(seed)
    diseased = rng.random(n) < 0.25
    df = {'area': rng.lognormal(6, .6, n), 'humidity': rng.normal(55, 12, n) + 4 * diseased,
          'temp': rng.normal(21, 4, n), 'price': rng.lognormal(3, 1, n),
          'tree': rng.integers(0, 1200, n), 'variety': rng.choice(['gala', 'fuji', 'jona', 'elstar'], n)}
    shift = np.select([df['variety'] == 'gala', df['variety'] == 'fuji'], [1, -1], 0)
    df['temp'] = df['temp'] + 2 * diseased * shift
    yy, xx = np.mgrid[:16, :16]
    px = rng.normal(.45, .2, (n, 16, 16, 3))
    for i in range(n):
        off, w = rng.uniform(-5, 5), rng.uniform(.9, 1.7)
        slant = (xx - yy) if diseased[i] else (xx + yy - 15)   # veins lean the other way on a diseased leaf
        stripe = np.exp(-((slant - off) / (1.6 * w)) ** 2) * rng.uniform(.05, .3)
        px[i] += stripe[..., None] * np.array([.3, 1., .2])
    df['pixels'] = (px.clip(0, 1) * 255).astype(np.uint8).reshape(n, -1)
    df['target'] = diseased.astype(np.int64)
    return df


train_df, test_df = make_split(1800, 1), make_split(1000, 2)
VARIETIES = sorted(set(train_df['variety']))


def to_images(df):
    x = df['pixels'].reshape(-1, 16, 16, 3).transpose(0, 3, 1, 2)
    return x.astype(np.float32) / 255.


def target_encode(df, ref, y_ref, smooth=10):
    """mean target by tree, out of the rows `ref` only, shrunk to the prior"""
    prior, table = y_ref.mean(), {}
    for f in np.unique(ref['tree']):
        m = ref['tree'] == f
        table[f] = (y_ref[m].sum() + smooth * prior) / (m.sum() + smooth)
    return np.array([table.get(f, prior) for f in df['tree']])


def loo_encode(df, y, smooth=10):
    """for the training rows: every row's own target left out"""
    prior, s, c = y.mean(), np.bincount(df['tree'], y, 1200), np.bincount(df['tree'], minlength=1200)
    return (s[df['tree']] - y + smooth * prior) / (c[df['tree']] - 1 + smooth)


def take(df, idx):
    return {k: v[idx] for k, v in df.items()}


def num_features(df, tree_te):
    cols = [np.log1p(df[c]) if c in ('area', 'price') else df[c] for c in CFG.num_cols]
    return np.stack(cols + [tree_te], 1)


def tabular(df, scaler, tree_te):
    onehot = np.stack([df['variety'] == v for v in VARIETIES], 1)
    return np.concatenate([scaler.transform(num_features(df, tree_te)), onehot], 1).astype(np.float32)


class LeafDataset(Dataset):
    def __init__(self, images, tab, y=None, train=False):
        self.images, self.tab, self.y, self.train = images, tab, y, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        img = torch.from_numpy(self.images[i])
        if self.train:
            if random.random() < .5:
                img = img.flip(1, 2)            # half turn keeps the lean of the veins
            img = img * random.uniform(.85, 1.15)
        y = -1. if self.y is None else float(self.y[i])
        return img, torch.from_numpy(self.tab[i]), torch.tensor(y)


class LeafNet(nn.Module):
    def __init__(self, n_tab):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                                 nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten())
        self.mlp = nn.Sequential(nn.Linear(n_tab, 32), nn.ReLU(), nn.Dropout(.2))
        self.head = nn.Sequential(nn.Linear(128 + 32, 48), nn.ReLU(), nn.Dropout(.3), nn.Linear(48, 1))

    def forward(self, img, tab):
        return self.head(torch.cat([self.cnn(img), self.mlp(tab)], 1)).squeeze(1)


# %% loops
def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    losses = []
    for img, tab, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(img, tab), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return np.mean(losses)


@torch.no_grad()
def inference(model, loader, tta=True):
    model.eval()
    out = []
    for img, tab, _ in loader:
        p = model(img, tab).sigmoid()
        if tta:
            p = (p + model(img.flip(2, 3), tab).sigmoid()) / 2
        out.append(p.numpy())
    return np.concatenate(out)


# %% CV
y_all = train_df['target']
oof, test_pred, scores = np.zeros(len(y_all)), np.zeros(len(test_df['target'])), []
train_images, test_images = to_images(train_df), to_images(test_df)
skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
for fold, (trn_idx, val_idx) in enumerate(skf.split(np.zeros(len(y_all)), y_all)):
    trn, val = take(train_df, trn_idx), take(train_df, val_idx)
    trn_te = loo_encode(trn, trn['target'])
    scaler = StandardScaler().fit(num_features(trn, trn_te))
    trn_tab = tabular(trn, scaler, trn_te)
    val_tab = tabular(val, scaler, target_encode(val, trn, trn['target']))
    test_tab = tabular(test_df, scaler, target_encode(test_df, trn, trn['target']))
    trn_loader = DataLoader(LeafDataset(train_images[trn_idx], trn_tab, trn['target'], train=True),
                            batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(LeafDataset(train_images[val_idx], val_tab, val['target']), batch_size=256)
    test_loader = DataLoader(LeafDataset(test_images, test_tab), batch_size=256)

    model = LeafNet(trn_tab.shape[1]).to(CFG.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.wd)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG.epochs * len(trn_loader))
    n_pos = trn['target'].sum()
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor((len(trn['target']) - n_pos) / n_pos, dtype=torch.float32))

    best_score, best_state, bad = -np.inf, None, 0
    for epoch in range(CFG.epochs):
        loss = train_fn(trn_loader, model, criterion, optimizer, scheduler)
        score = roc_auc_score(val['target'], inference(model, val_loader))
        print(f'fold {fold} epoch {epoch}: loss {loss:.4f} val auc {score:.4f}')
        if score > best_score:
            best_score, best_state, bad = score, deepcopy(model.state_dict()), 0
        else:
            bad += 1
            if bad >= CFG.patience:
                break
    model.load_state_dict(best_state)
    oof[val_idx] = inference(model, val_loader)
    test_pred += inference(model, test_loader) / CFG.n_fold
    scores.append(best_score)

print(f'CV {np.mean(scores):.4f} +- {np.std(scores):.4f}')
print(f'OOF auc {roc_auc_score(y_all, oof):.4f} f1 {f1_score(y_all, oof > .5):.4f}')
print(f'Test auc {roc_auc_score(test_df["target"], test_pred):.4f} f1 {f1_score(test_df["target"], test_pred > .5):.4f}')
