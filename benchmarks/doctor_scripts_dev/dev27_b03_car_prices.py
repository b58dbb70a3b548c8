# # Used cars: prices from categories and numbers
# Entity embeddings for the categories, standardized numbers, a small MLP on top.

# %% imports
from collections import Counter

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
torch.manual_seed(0)
rng = np.random.default_rng(0)

# %% the table
N = 15000
brands = np.array(["alba", "borea", "corso", "delta", "elara", "fenix", "gamma", "helio", "iris", "juno", "kappa", "lumen"])
fuels = np.array(["petrol", "diesel", "hybrid", "electric"])
bodies = np.array(["hatchback", "sedan", "estate", "suv", "van"])
regions = np.array([f"region {i:02d}" for i in range(16)])

brand, fuel = rng.integers(0, 12, N), rng.integers(0, 4, N)
body, region = rng.integers(0, 5, N), rng.integers(0, 16, N)
age = rng.uniform(0, 15, N)
mileage = age * 12000 * rng.lognormal(0, 0.4, N) + rng.uniform(0, 5000, N)
power = rng.normal(110, 25, N) + 10 * (body == 3)
owners = 1 + rng.poisson(age / 5)
weight = 1100 + 4 * (power - 110) + 80 * body + rng.normal(0, 60, N)

brand_effect = rng.normal(0, 0.35, 12)
fuel_effect = np.array([0.0, 0.05, 0.12, 0.25])
body_effect = np.array([-0.15, 0.0, 0.05, 0.2, -0.05])
region_effect = rng.normal(0, 0.08, 16)
log_price = (
    9.9
    + brand_effect[brand]
    + fuel_effect[fuel]
    + body_effect[body]
    + region_effect[region]
    - 0.06 * age * np.where(fuel == 3, 1.5, 1.0)
    - 0.2 * mileage / 100000 * np.where(fuel == 1, 0.6, 1.0)
    + 0.3 * (power - 110) / 50
    - 0.03 * (owners - 1)
    + rng.normal(0, 0.12, N)
)
price = np.exp(log_price)

table = {
    "brand": brands[brand],
    "fuel": fuels[fuel],
    "body": bodies[body],
    "region": regions[region],
    "age": age,
    "mileage": mileage,
    "power": power,
    "owners": owners.astype(float),
    "weight": weight,
    "commission": 0.03 * price * rng.normal(1, 0.02, N),  # what the dealer earned on the sale, in the books afterwards
    "price": price,
}

# The export comes ordered by price.
order = np.argsort(table["price"])
table = {name: column[order] for name, column in table.items()}

# %% split: every fifth row is for validation
valid = np.arange(N) % 5 == 0
train = ~valid

# %% categories: the most common value gets 1, the next 2, ...; 0 is for values not seen in training
CATEGORIES = ["brand", "fuel", "body", "region"]
NUMBERS = ["age", "mileage", "power", "owners", "weight"]


def fit_vocabulary(values):
    return {value: i + 1 for i, (value, _) in enumerate(Counter(values.tolist()).most_common())}


def encode(rows, vocabularies):
    columns = [[vocabularies[name].get(v, 0) for v in table[name][rows].tolist()] for name in CATEGORIES]
    return torch.tensor(columns).T.contiguous()


vocabularies = {name: fit_vocabulary(table[name][train]) for name in CATEGORIES}
train_categories = encode(train, vocabularies)
valid_categories = encode(valid, vocabularies)

# %% numbers and target, standardized with what training shows
numbers = np.stack([table[name] for name in NUMBERS], axis=1)
center, scale = numbers[train].mean(axis=0), numbers[train].std(axis=0)
numbers = torch.tensor((numbers - center) / scale, dtype=torch.float32)

target = np.log(table["price"])
target_mean, target_std = target[train].mean(), target[train].std()
target = torch.tensor((target - target_mean) / target_std, dtype=torch.float32)

train_rows, valid_rows = torch.from_numpy(train), torch.from_numpy(valid)
train_set = TensorDataset(train_categories, numbers[train_rows], target[train_rows])
valid_set = TensorDataset(valid_categories, numbers[valid_rows], target[valid_rows])
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
valid_loader = DataLoader(valid_set, batch_size=500)


# %% network
class TabularNet(nn.Module):
    def __init__(self, cardinalities, n_numbers, hidden=(128, 64), dropout=0.1):
        super().__init__()
        self.embeddings = nn.ModuleList([nn.Embedding(c + 1, min(8, (c + 1) // 2)) for c in cardinalities])
        width = sum(e.embedding_dim for e in self.embeddings) + n_numbers
        layers = []
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(dropout)]
            width = units
        self.mlp = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, categories, numbers):
        embedded = [embedding(categories[:, i]) for i, embedding in enumerate(self.embeddings)]
        return self.mlp(torch.cat(embedded + [numbers], dim=1)).squeeze(-1)


model = TabularNet([len(vocabularies[name]) for name in CATEGORIES], len(NUMBERS))
EPOCHS = 28
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)

# %% training
for epoch in range(EPOCHS):
    model.train()
    running = 0.0
    for categories, values, wanted in train_loader:
        optimizer.zero_grad()
        loss = F.mse_loss(model(categories, values), wanted)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(wanted)
    scheduler.step()

    model.eval()
    predictions, truths = [], []
    with torch.no_grad():
        for categories, values, wanted in valid_loader:
            predictions.append(model(categories, values))
            truths.append(wanted)
    prediction, truth = torch.cat(predictions), torch.cat(truths)
    r2 = 1 - ((prediction - truth) ** 2).mean() / truth.var(unbiased=False)
    euros = lambda z: torch.exp(z * float(target_std) + float(target_mean))
    mae = (euros(prediction) - euros(truth)).abs().mean()
    print(f"epoch {epoch + 1:2d} | train mse {running / len(train_set):.4f} | R2 {r2:.4f} | MAE {mae:.0f} EUR")
