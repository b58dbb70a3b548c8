"""Used tractor auctions (kernel for a tabular competition): entity embeddings + MLP, RMSLE."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

BRANDS, REGIONS, DRIVES = 14, 9, 3


def auctions(n=8000, seed=11):
    rng = np.random.RandomState(seed)
    brand = rng.choice(BRANDS, n, p=np.linspace(2, 0.5, BRANDS) / np.linspace(2, 0.5, BRANDS).sum())
    region = rng.randint(0, REGIONS, n)
    drive = rng.randint(0, DRIVES, n)
    age = rng.gamma(3.0, 4.0, n)
    engine_hours = age * rng.uniform(150, 700, n)
    horsepower = rng.choice([45, 65, 90, 120, 160, 220], n) * rng.uniform(0.9, 1.1, n)
    brand_value, region_value = 0.35 * rng.randn(BRANDS), 0.12 * rng.randn(REGIONS)
    brand_aging = 0.015 * rng.rand(BRANDS)
    log_price = (
        6.0 + 0.85 * np.log(horsepower) + brand_value[brand] + region_value[region]
        + np.array([0.0, 0.2, 0.05])[drive] * (horsepower > 80)
        - (0.03 + brand_aging[brand]) * age - 0.15 * np.tanh(engine_hours / 4000)
        + 0.08 * rng.randn(n)
    )
    categorical = np.stack([brand, region, drive], axis=1)
    continuous = np.stack([age, np.log1p(engine_hours), horsepower], axis=1)
    return categorical, continuous, np.exp(log_price)


class TabularModel(nn.Module):
    def __init__(self, cardinalities, n_cont, hidden=(128, 64), p=0.05):
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(c, min(50, (c + 1) // 2)) for c in cardinalities])
        n_emb = sum(e.embedding_dim for e in self.embeds)
        self.bn_cont = nn.BatchNorm1d(n_cont)
        layers, n_in = [], n_emb + n_cont
        for n_out in hidden:
            layers += [nn.Linear(n_in, n_out), nn.ReLU(inplace=True), nn.BatchNorm1d(n_out), nn.Dropout(p)]
            n_in = n_out
        layers.append(nn.Linear(n_in, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x_cat, x_cont):
        x = [e(x_cat[:, i]) for i, e in enumerate(self.embeds)]
        x = torch.cat(x + [self.bn_cont(x_cont)], dim=1)
        return self.layers(x).squeeze(1)


def rmsle(true, predicted):
    return np.sqrt(np.mean((np.log1p(true) - np.log1p(predicted)) ** 2))


if __name__ == "__main__":
    torch.manual_seed(1)
    cat, cont, price = auctions()
    rows = np.arange(len(price))
    tr, va = train_test_split(rows, test_size=0.2, random_state=1)

    scaler = StandardScaler().fit(cont[tr])
    cont = scaler.transform(cont).astype(np.float32)
    log_price = np.log1p(price)
    center, spread = log_price[tr].mean(), log_price[tr].std()
    y = ((log_price - center) / spread).astype(np.float32)

    def dataset(index):
        return TensorDataset(torch.from_numpy(cat[index]).long(), torch.from_numpy(cont[index]), torch.from_numpy(y[index]))

    train_dl = DataLoader(dataset(tr), batch_size=64, shuffle=True, drop_last=True)
    valid_dl = DataLoader(dataset(va), batch_size=512)

    model = TabularModel([BRANDS, REGIONS, DRIVES], cont.shape[1])
    criterion = nn.SmoothL1Loss()
    epochs = 20
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, epochs=epochs, steps_per_epoch=len(train_dl))

    print(f"constant price: RMSLE {rmsle(price[va], np.expm1(np.full(len(va), center))):.4f}")
    for epoch in range(epochs):
        model.train()
        losses = []
        for xc, xn, target in train_dl:
            loss = criterion(model(xc, xn), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())

        model.eval()
        with torch.no_grad():
            outputs = torch.cat([model(xc, xn) for xc, xn, _ in valid_dl]).numpy()
        predicted = np.expm1(outputs * spread + center)
        score = rmsle(price[va], predicted)
        mape = np.mean(np.abs(predicted - price[va]) / price[va])
        print(f"epoch {epoch + 1:2d}  train {np.mean(losses):.4f}  RMSLE {score:.4f}  MAPE {100 * mape:.2f}%")
