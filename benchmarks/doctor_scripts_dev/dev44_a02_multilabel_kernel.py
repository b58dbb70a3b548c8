# %% [markdown]
# # Which objects are in the scene? (multi-label starter, CV + LB)

# %%
import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

import toydata

SEED = 2021
EPOCHS = 12
BS = 32
np.random.seed(SEED)
torch.manual_seed(SEED)

# %%
# Each scene is 16 x 32 pixels: two objects side by side. Label columns are the six object names.
LABELS = toydata.NAMES


def make_scenes(train, count):
    shapes = toydata.Shapes(train=train, count=2 * count)
    tiles = torch.stack(shapes.images)
    kinds = torch.tensor(shapes.targets)
    images = torch.cat([tiles[:count], tiles[count:]], dim=3).numpy()
    hot = np.zeros((count, len(LABELS)), dtype=np.float32)
    hot[np.arange(count), kinds[:count].numpy()] = 1
    hot[np.arange(count), kinds[count:].numpy()] = 1
    return images, hot


images, hot = make_scenes(True, 900)
order = np.random.permutation(len(images))
images, hot = images[order], hot[order]
test_images, test_hot = make_scenes(False, 200)

df = pd.DataFrame(hot, columns=LABELS)
df["row"] = np.arange(len(df))
print(df[LABELS].mean())

# %%
train_df, valid_df = train_test_split(df, test_size=0.2, random_state=SEED)
print(len(train_df), "train", len(valid_df), "valid")


class SceneDataset(Dataset):
    def __init__(self, frame, pixels, augment=False):
        self.rows = frame["row"].values
        self.y = frame[LABELS].values.astype(np.float32)
        self.pixels = pixels
        self.augment = augment

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        x = (self.pixels[self.rows[i]] - 0.5) / 0.2
        if self.augment:
            if np.random.rand() < 0.5:
                x = x[:, :, ::-1]
            if np.random.rand() < 0.5:
                x = x[:, ::-1, :]
        return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)), torch.from_numpy(self.y[i])


test_df = pd.DataFrame(test_hot, columns=LABELS)
test_df["row"] = np.arange(len(test_df))
train_dl = DataLoader(SceneDataset(train_df, images, augment=True), batch_size=BS, shuffle=True)
valid_dl = DataLoader(SceneDataset(valid_df, images), batch_size=64)
test_dl = DataLoader(SceneDataset(test_df, test_images), batch_size=64)


# %%
def conv_bn(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU())


class SceneNet(nn.Module):
    def __init__(self, n_out):
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(3, 24), nn.MaxPool2d(2), conv_bn(24, 48), conv_bn(48, 48), nn.MaxPool2d(2), conv_bn(48, 64)
        )
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, n_out))

    def forward(self, x):
        return self.head(self.pool(self.features(x)))


model = SceneNet(len(LABELS))
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=6e-3, epochs=EPOCHS, steps_per_epoch=len(train_dl)
)


# %%
@torch.no_grad()
def predict(dl):
    model.eval()
    outs, ys = [], []
    for xb, yb in dl:
        outs.append(torch.sigmoid(model(xb)))
        ys.append(yb)
    return torch.cat(outs), torch.cat(ys)


def scores(dl):
    out, y = predict(dl)
    hard = (out > 0.5).int().numpy()
    f1 = f1_score(y.int().numpy(), hard, average="macro", zero_division=0)
    return f1, average_precision_score(y.int().numpy(), out.numpy(), average="macro")


# %%
best_f1, best_state = -1.0, None
for epoch in range(1, EPOCHS + 1):
    model.train()
    running = 0.0
    for xb, yb in train_dl:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item() * len(xb)
    f1, ap = scores(valid_dl)
    print(f"epoch {epoch:2d}  loss {running / len(train_df):.4f}  valid F1 {f1:.4f}  valid mAP {ap:.4f}")
    if f1 > best_f1:
        best_f1 = f1
        best_state = {k: v.clone() for k, v in model.state_dict().items()}

# %%
model.load_state_dict(best_state)
f1, ap = scores(test_dl)
print(f"CV {best_f1:.4f}   LB: F1 {f1:.4f} mAP {ap:.4f}")
