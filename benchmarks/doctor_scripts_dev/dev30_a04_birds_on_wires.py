# %% [markdown]
# # How many birds sit on the wires?
# A regression notebook: one gray picture in, one number out.

# %%
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(11)
torch.set_num_threads(1)
rng = np.random.default_rng(11)

H, W = 32, 48

# %% [markdown]
# ## Pictures
# Sky, three wires, up to nine birds. A bird is a body, a head and a tail, looking left or right.


# %%
def bird(canvas, y, x):
    yy, xx = np.mgrid[0:H, 0:W]
    look = rng.choice([-1, 1])
    body = ((yy - y + 2) / 2.2) ** 2 + ((xx - x) / 1.8) ** 2 < 1
    head = (yy - y + 4) ** 2 + (xx - x - look) ** 2 < 1.6
    tail = (yy >= y) & (yy <= y + 2) & (xx == x - look)
    canvas[body | head | tail] = rng.uniform(0.02, 0.12)


def picture(count):
    sky = np.linspace(rng.uniform(0.55, 0.75), rng.uniform(0.75, 0.95), H)[:, None]
    canvas = np.repeat(sky, W, axis=1)
    for _ in range(rng.integers(0, 3)):  # clouds
        top, left = rng.integers(0, H - 6), rng.integers(0, W - 14)
        canvas[top : top + 5, left : left + 13] += 0.12
    wires = [9 + rng.integers(-1, 2), 18 + rng.integers(-1, 2), 27 + rng.integers(-1, 2)]
    for wire in wires:
        canvas[wire] = 0.35
    slots = [(wire, 4 + 8 * column) for wire in wires for column in range(6)]
    for pick in rng.choice(len(slots), size=count, replace=False):
        y, x = slots[pick]
        bird(canvas, y - 1, x + rng.integers(-1, 2))
    canvas = canvas + rng.normal(0, 0.03, canvas.shape)
    return (np.clip(canvas, 0, 1) * 255).astype(np.uint8)


counts = rng.integers(1, 10, size=2000)
images = np.stack([picture(count) for count in counts])
images.shape, counts[:10]

# %% [markdown]
# ## Tensors
# The mean and the spread of the pictures were measured once.

# %%
SKY_MEAN, SKY_STD = 0.68, 0.22
X = torch.from_numpy(images.astype(np.float32) / 255.0).unsqueeze(1)
X = (X - SKY_MEAN) / SKY_STD
y = torch.from_numpy(counts).float()

split = 1600
y_mean, y_std = y[:split].mean(), y[:split].std()
train_ds = TensorDataset(X[:split], (y[:split] - y_mean) / y_std)
val_ds = TensorDataset(X[split:], y[split:])  # in birds
train_dl = DataLoader(train_ds, batch_size=32, shuffle=True)
val_dl = DataLoader(val_ds, batch_size=50)


# %%
class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.head(self.features(x)).squeeze(1)


model = Counter()
criterion = nn.SmoothL1Loss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
print(sum(p.numel() for p in model.parameters()), "parameters; always the mean:",
      f"MAE {(y[split:] - y_mean).abs().mean():.2f} birds")

# %% [markdown]
# ## Training

# %%
EPOCHS = 14
history = []
for epoch in range(EPOCHS):
    model.train()
    running = 0.0
    for xb, yb in train_dl:
        optimizer.zero_grad()
        pred = model(xb)
        loss = criterion(pred, yb)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(xb)

    model.eval()
    abs_error, exact = 0.0, 0
    with torch.no_grad():
        for xb, yb in val_dl:
            birds = model(xb).reshape(-1) * y_std + y_mean
            abs_error += (birds - yb).abs().sum().item()
            exact += (birds.round() == yb).sum().item()
    mae = abs_error / len(val_ds)
    history.append((running / len(train_ds), mae))
    print(f"epoch {epoch + 1:2d}: train loss {running / len(train_ds):.4f}, "
          f"val MAE {mae:.3f} birds, exactly right {exact / len(val_ds):.1%}")

# %%
print("last MAE:", round(history[-1][1], 3))
