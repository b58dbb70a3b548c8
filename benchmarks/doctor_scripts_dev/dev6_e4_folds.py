# %% [code]
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset


# %% [code]
class CFG:
    seed = 2024
    n_fold = 4
    epochs = 14
    batch_size = 64
    lr = 2e-3
    hidden = 64
    weight_decay = 1e-4


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)


# %% [code]
def make_frame(n, rng):
    df = pd.DataFrame({
        'age': rng.integers(18, 80, n),
        'income': rng.lognormal(10.8, 0.6, n),
        'balance': rng.normal(4000, 2500, n),
        'tenure': rng.integers(0, 120, n),
        'calls': rng.poisson(2.0, n),
        'usage': rng.gamma(2.0, 150.0, n),
        'plan': rng.choice(['basic', 'plus', 'pro'], n, p=[0.5, 0.3, 0.2]),
        'region': rng.choice(['north', 'south', 'east', 'west'], n),
    })
    z = (1.1 * (df.calls - 2) - 0.035 * (df.tenure - 60) - 0.9 * np.log(df.income / 49000)
         + 1.6 * (df.plan == 'basic') * ((df.age - 49) / 18) - 0.0035 * (df.usage - 300)
         - 0.9 * ((df.balance - 4000) / 2500) ** 2 + 0.6 * (df.region == 'south'))
    df['churn'] = (1.3 * z + rng.logistic(0, 1.0, n) > 2.7).astype(int)
    return df


rng = np.random.default_rng(CFG.seed)
train_df = make_frame(2400, rng)
test_df = make_frame(1500, rng)
train_df.shape, train_df['churn'].mean()

# %% [code]
num_cols = ['age', 'income', 'balance', 'tenure', 'calls', 'usage']
cat_cols = ['plan', 'region']
dummies = pd.get_dummies(pd.concat([train_df, test_df], ignore_index=True)[cat_cols]).astype(np.float32)
ohe_cols = list(dummies.columns)
train_df[ohe_cols] = dummies.iloc[:len(train_df)].values
test_df[ohe_cols] = dummies.iloc[len(train_df):].values
train_df['fold'] = -1
skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
for fold, (_, val_idx) in enumerate(skf.split(train_df, train_df['churn'])):
    train_df.loc[val_idx, 'fold'] = fold


# %% [code]
class ChurnDataset(Dataset):
    def __init__(self, df, scaler):
        num = scaler.transform(df[num_cols].values)
        self.x = np.concatenate([num, df[ohe_cols].values], axis=1).astype(np.float32)
        self.y = df['churn'].values.astype(np.float32)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return torch.tensor(self.x[i]), torch.tensor(self.y[i])


class ChurnModel(nn.Module):
    def __init__(self, n_in, hidden):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_in, hidden), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.1),
        )
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.out(self.layers(x)).squeeze(-1)


# %% [code]
def train_fn(model, loader, criterion, optimizer):
    model.train()
    losses = []
    for x, y in loader:
        optimizer.zero_grad()
        logits = model(x)
        loss = criterion(logits, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses)


def infer(model, loader):
    model.eval()
    out = []
    with torch.no_grad():
        for x, _ in loader:
            out.append(torch.sigmoid(model(x)).float().numpy())
    return np.nan_to_num(np.concatenate(out))


def run_fold(fold):
    trn, val = train_df[train_df.fold != fold], train_df[train_df.fold == fold]
    scaler = StandardScaler().fit(trn[num_cols].values)
    trn_ds, val_ds, tst_ds = ChurnDataset(trn, scaler), ChurnDataset(val, scaler), ChurnDataset(test_df, scaler)
    trn_loader = DataLoader(trn_ds, batch_size=CFG.batch_size, shuffle=True)
    val_loader = DataLoader(val_ds, batch_size=256)
    tst_loader = DataLoader(tst_ds, batch_size=256)

    n_pos, n_neg = trn['churn'].sum(), (trn['churn'] == 0).sum()
    pos_weight = torch.tensor(n_neg / n_pos, dtype=torch.float32)
    criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
    model = ChurnModel(len(num_cols) + len(ohe_cols), CFG.hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG.epochs)

    for epoch in range(CFG.epochs):
        loss = train_fn(model, trn_loader, criterion, optimizer)
        scheduler.step()
        if epoch % 4 == 0 or epoch == CFG.epochs - 1:
            auc = roc_auc_score(val['churn'], infer(model, val_loader))
            print(f'fold {fold} epoch {epoch} loss {loss:.4f} auc {auc:.4f}')
    return val.index, infer(model, val_loader), infer(model, tst_loader)


# %% [code]
oof = np.zeros(len(train_df))
test_pred = np.zeros(len(test_df))
for fold in range(CFG.n_fold):
    idx, val_pred, tst_pred = run_fold(fold)
    oof[idx] = val_pred
    test_pred += tst_pred / CFG.n_fold

# %% [code]
cv_auc = roc_auc_score(train_df['churn'], oof)
cv_f1 = f1_score(train_df['churn'], oof > 0.5)
lb_auc = roc_auc_score(test_df['churn'], test_pred)
lb_f1 = f1_score(test_df['churn'], test_pred > 0.5)
print(f'positive rate {train_df.churn.mean():.3f}')
print(f'FINAL cv_auc {cv_auc:.4f} cv_f1 {cv_f1:.4f} lb_auc {lb_auc:.4f} lb_f1 {lb_f1:.4f}')
