# %% [markdown]
# # Reading eight runes from few pictures
# First a network learns eighty *other* runes; then its convolutions are kept as they are
# and only a new head learns the eight that the museum asked for.

# %%
import os
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

# %% Made runes: 5 x 5 strokes, three pixels a stroke
glyphs = (torch.rand(88, 5, 5, generator=torch.Generator().manual_seed(5)) < 0.5).float()


def carve(ids, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(len(ids), 1, 24, 24)
    for i, rune in enumerate(ids):
        top, left = torch.randint(2, 7, (2,), generator=generator).tolist()
        strokes = glyphs[rune].repeat_interleave(3, 0).repeat_interleave(3, 1)
        images[i, 0, top : top + 15, left : left + 15] = strokes * (0.6 + 0.4 * torch.rand((), generator=generator))
    images = images + 0.15 * torch.randn(images.shape, generator=generator)
    return (images - 0.2) / 0.35


# %% The eighty runes of the old catalogue
source_ids = torch.arange(80).repeat(36)
source = TensorDataset(carve(source_ids.tolist(), seed=1), source_ids)
source_loader = DataLoader(source, batch_size=48, shuffle=True)
check_ids = torch.arange(80).repeat(4)
check_images = carve(check_ids.tolist(), seed=2)


# %%
class RuneNet(nn.Module):
    def __init__(self, runes):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 3 * 3, 128),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(128, runes), nn.LogSoftmax(dim=-1))

    def forward(self, images):
        return self.head(self.backbone(images))


criterion = nn.NLLLoss()

# %% Pretraining
scout = RuneNet(80)
adam = torch.optim.Adam(scout.parameters(), lr=1e-3)
for epoch in range(13):
    scout.train()
    for images, ids in source_loader:
        adam.zero_grad()
        loss = criterion(scout(images), ids)
        loss.backward()
        adam.step()
    scout.eval()
    with torch.no_grad():
        share = (scout(check_images).argmax(-1) == check_ids).float().mean().item()
    print(f"catalogue epoch {epoch + 1:2d}: loss {loss.item():.3f}, new pictures read {share:.3f}")

folder = tempfile.mkdtemp()
weights_path = os.path.join(folder, "catalogue.pt")
torch.save({"epoch": 13, "model": scout.state_dict()}, weights_path)

# %% The museum's eight, with their names as the file list has them
names = ["fehu", "uruz", "thurs", "ansuz", "raido", "kauna", "gebo", "wunjo"]
train_names = [name for name in names for _ in range(80)]
val_names = [name for name in names for _ in range(40)]
train_images = carve([80 + names.index(name) for name in train_names], seed=3)
val_images = carve([80 + names.index(name) for name in val_names], seed=4)

classes = sorted(set(train_names))
class_to_idx = {name: i for i, name in enumerate(classes)}
train_labels = torch.tensor([class_to_idx[name] for name in train_names])
val_labels = torch.tensor([class_to_idx[name] for name in val_names])

train_loader = DataLoader(TensorDataset(train_images, train_labels), batch_size=32, shuffle=True)
val_loader = DataLoader(TensorDataset(val_images, val_labels), batch_size=40)

# %% Take the catalogue's weights, freeze them, put a new head on
model = RuneNet(80)
model.load_state_dict(torch.load(weights_path)["model"])
os.remove(weights_path)
for parameter in model.parameters():
    parameter.requires_grad = False
model.head = nn.Sequential(
    nn.Linear(128, 64),
    nn.ReLU(),
    nn.Dropout(0.2),
    nn.Linear(64, len(classes)),
    nn.LogSoftmax(dim=1),
)
optimizer = torch.optim.Adam(model.head.parameters(), lr=2e-3)

# %% Train the head
for epoch in range(25):
    model.train()
    model.backbone.eval()  # frozen batch norm keeps the catalogue's statistics
    running = 0.0
    for images, labels in train_loader:
        optimizer.zero_grad()
        log_probs = model(images)
        loss = criterion(log_probs, labels)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(labels)

    model.eval()
    correct, val_loss = 0, 0.0
    with torch.no_grad():
        for images, labels in val_loader:
            log_probs = model(images)
            val_loss += criterion(log_probs, labels).item() * len(labels)
            correct += (log_probs.argmax(dim=1) == labels).sum().item()
    print(
        f"museum epoch {epoch + 1:2d}: train {running / len(train_labels):.3f}, "
        f"validation {val_loss / len(val_labels):.3f}, accuracy {correct / len(val_labels):.3f}"
    )
