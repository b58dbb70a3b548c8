# House prices: five folds, a network that also says how sure it is, mean of the folds for the test rows
import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from toydata import houses

SEED, FOLDS, EPOCHS, BATCH = 2023, 5, 40, 64


def seed_everything(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)


def load_frames():
    frames = []
    for count, seed in ((1500, 0), (300, 99)):
        features, price = houses(count, seed=seed)
        frame = pd.DataFrame(features.numpy(), columns=[f"f{i}" for i in range(8)])
        frame["price"] = price.numpy()
        frames.append(frame)
    return frames


class PriceNet(nn.Module):
    def __init__(self, n_features, hidden=64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.mu = nn.Linear(hidden, 1)
        self.log_var = nn.Linear(hidden, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.mu(h).squeeze(1), self.log_var(h).squeeze(1).clamp(-8, 4)


def nll(mu, log_var, y):
    per_row = 0.5 * (log_var + (y - mu) ** 2 * torch.exp(-log_var))
    return per_row.mean()


def fit_fold(x, y, x_valid, y_valid):
    model = PriceNet(x.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=2e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=EPOCHS * (len(x) // BATCH))
    for epoch in range(EPOCHS):
        model.train()
        order = torch.randperm(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            loss = nll(*model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            scheduler.step()
        if epoch % 20 == 19:
            model.eval()
            with torch.no_grad():
                valid = nll(*model(x_valid), y_valid).item()
            print(f"   epoch {epoch + 1}: last loss {loss.item():+.3f}, validation {valid:+.3f}")
    return model.eval()


def main():
    seed_everything(SEED)
    torch.set_num_threads(1)
    train, test = load_frames()
    columns = [c for c in train.columns if c != "price"]
    oof = np.zeros(len(train))
    fold_mu, fold_var = [], []

    for fold, (trn, val) in enumerate(KFold(FOLDS, shuffle=True, random_state=SEED).split(train)):
        print("fold", fold)
        x_scaler, y_scaler = StandardScaler(), StandardScaler()
        x_trn = x_scaler.fit_transform(train.loc[trn, columns].values)
        y_trn = y_scaler.fit_transform(train.loc[trn, ["price"]].values)[:, 0]
        x_val = x_scaler.transform(train.loc[val, columns].values)
        y_val = y_scaler.transform(train.loc[val, ["price"]].values)[:, 0]
        x_trn, y_trn, x_val, y_val = (torch.tensor(a, dtype=torch.float32) for a in (x_trn, y_trn, x_val, y_val))
        model = fit_fold(x_trn, y_trn, x_val, y_val)

        x_test = torch.tensor(x_scaler.transform(test[columns].values), dtype=torch.float32)
        scale, center = float(y_scaler.scale_[0]), float(y_scaler.mean_[0])
        with torch.no_grad():
            oof[val] = model(x_val)[0].numpy() * scale + center
            mu, log_var = model(x_test)
        fold_mu.append(mu.numpy() * scale + center)
        fold_var.append(log_var.exp().numpy() * scale**2)

    print(f"out of fold: RMSE {mean_squared_error(train['price'], oof) ** 0.5:.2f}, R2 {r2_score(train['price'], oof):.3f}")
    mu = np.mean(fold_mu, axis=0)
    sigma = np.sqrt(np.mean(fold_var, axis=0) + np.var(fold_mu, axis=0))
    inside = (np.abs(test["price"].values - mu) < 2 * sigma).mean()
    print(f"test: RMSE {mean_squared_error(test['price'], mu) ** 0.5:.2f}, within two sigma {inside:.1%}")


if __name__ == "__main__":
    main()
