# %% [markdown]
# # Lab 5. What lies on the table?
#
# Each picture shows a table of four places. On a place lies nothing, or one of six things (a red or blue square,
# disc or cross). We want to know, for each of the six things, whether it lies on the table: **multi-label**
# classification. Several answers may be yes, or none.

# %%
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import COLORS, NAMES, shape_mask

torch.manual_seed(5)

# %% [markdown]
# ## 1. The pictures


# %%
def draw_table(generator):
    canvas = torch.full((3, 24, 24), 0.5)
    present = torch.zeros(len(NAMES))
    for row in (0, 12):
        for column in (0, 12):
            if torch.rand((), generator=generator) < 0.5:
                continue
            which = int(torch.randint(0, len(NAMES), (1,), generator=generator))
            color, kind = NAMES[which].split()
            width = int(torch.randint(7, 11, (1,), generator=generator))
            top, left = torch.randint(0, 13 - width, (2,), generator=generator).tolist()
            place = canvas[:, row : row + 12, column : column + 12]
            place[:, shape_mask(kind, 12, top, left, width)] = torch.tensor(COLORS[color])[:, None]
            present[which] = 1.0
    canvas = canvas + 0.04 * torch.randn(canvas.shape, generator=generator)
    return canvas.clamp(0, 1), present


def draw_tables(count, seed):
    generator = torch.Generator().manual_seed(seed)
    pictures, labels = [], []
    for _ in range(count):
        canvas, present = draw_table(generator)
        pictures.append((canvas * 255).to(torch.uint8))  # bytes: a quarter of the memory
        labels.append(present)
    return torch.stack(pictures), torch.stack(labels)


train_pictures, train_labels = draw_tables(2000, seed=1)
val_pictures, val_labels = draw_tables(400, seed=2)
print("pictures", tuple(train_pictures.shape), "| share of yes", train_labels.mean(0).tolist())


# %%
def to_input(pictures):
    return (pictures.float() / 255 - 0.5) / 0.25


train_loader = DataLoader(TensorDataset(to_input(train_pictures), train_labels), batch_size=32, shuffle=True)
val_loader = DataLoader(TensorDataset(to_input(val_pictures), val_labels), batch_size=100)


# %% [markdown]
# ## 2. Augmentation
# A table seen in a mirror has the same things on it.


# %%
def augment(x):
    if torch.rand(()) < 0.5:
        x = x.flip(3)
    if torch.rand(()) < 0.5:
        x = x.flip(2)
    return x


# %% [markdown]
# ## 3. The network
# Max pooling over all positions: *is there, anywhere, …?*


# %%
class TableNet(nn.Module):
    def __init__(self, n_labels):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(64, n_labels))

    def forward(self, x):
        return self.classifier(self.features(x))


model = TableNet(len(NAMES))
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
EPOCHS = 16
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

# %% [markdown]
# ## 4. Evaluation
# `label_accuracy`: share of right answers. `exact`: share of pictures with all six answers right.


# %%
@torch.no_grad()
def evaluate():
    model.eval()
    label_hits, exact_hits, answers, samples = 0, 0, 0, 0
    for x, y in val_loader:
        predicted = (torch.sigmoid(model(x)) > 0.5).float()
        label_hits += (predicted == y).sum().item()
        exact_hits += (predicted == y).all(dim=1).sum().item()
        answers += y.numel()
        samples += y.shape[0]
    return label_hits / answers, exact_hits / samples


# %% [markdown]
# ## 5. Training

# %%
history = []
for epoch in range(EPOCHS):
    model.train()
    total = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        logits = model(augment(x))
        loss = criterion(logits, y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
    scheduler.step()
    label_accuracy, exact = evaluate()
    history.append((total / len(train_labels), label_accuracy, exact))
    print(f"epoch {epoch + 1:2d}  loss {history[-1][0]:.4f}  label accuracy {label_accuracy:.3f}  exact {exact:.3f}")

# %%
print("best exact match:", max(exact for _, _, exact in history))
