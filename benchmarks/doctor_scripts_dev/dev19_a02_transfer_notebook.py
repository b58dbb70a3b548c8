# %% [markdown]
# # Transfer learning tutorial: from digits to letters, with few pictures
# %%
import os
import tempfile
import time
from copy import deepcopy

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import FONT

torch.manual_seed(0)
device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")

LETTERS = {"A": "25755", "C": "74447", "F": "74644", "H": "55755", "L": "44447", "P": "75744", "T": "72222", "X": "55255"}


def draw(glyphs, count, seed):
    """Colored glyphs of 3 x 5 cells somewhere on a ground of another color, already normalized."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(glyphs), (count,), generator=g)
    images = torch.zeros(count, 3, 16, 16)
    for i, label in enumerate(labels.tolist()):
        rows = torch.tensor([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in glyphs[label]])
        cell = rows.bool().repeat_interleave(2, 0).repeat_interleave(2, 1)
        mask = torch.zeros(16, 16, dtype=torch.bool)
        top, left = torch.randint(1, 6, (1,), generator=g).item(), torch.randint(2, 9, (1,), generator=g).item()
        mask[top:top + 10, left:left + 6] = cell
        ground = torch.rand(3, generator=g) * 0.5
        images[i] = ground[:, None, None]
        images[i][:, mask] = (ground + 0.3 + 0.2 * torch.rand(3, generator=g))[:, None]
    images = (images + 0.1 * torch.randn(images.shape, generator=g)).clamp(0, 1)
    return (images - 0.35) / 0.22, labels


# %%
class SmallNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        )
        self.fc = nn.Linear(64 * 4, num_classes)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


# %% This stands for the weights that one would download
def pretrain(path):
    net = nn.DataParallel(SmallNet(10)).to(device)
    opt = optim.Adam(net.parameters(), lr=3e-3)
    loader = DataLoader(TensorDataset(*draw(FONT, 1800, seed=1)), batch_size=60, shuffle=True)
    for epoch in range(7):
        right = 0
        for x, y in loader:
            opt.zero_grad()
            out = net(x.to(device))
            nn.functional.cross_entropy(out, y.to(device)).backward()
            opt.step()
            right += (out.argmax(1) == y.to(device)).sum().item()
        print(f"pretraining epoch {epoch}: accuracy {right / len(loader.dataset):.3f}")
    torch.save(net.state_dict(), path)


weights_file = os.path.join(tempfile.mkdtemp(), "smallnet_digits.pth")
pretrain(weights_file)

# %% Few pictures of letters
class_names = list(LETTERS)
full_set = TensorDataset(*draw(list(LETTERS.values()), 480, seed=2))
train_set, val_set = random_split(full_set, [240, 240], generator=torch.Generator().manual_seed(42))
image_datasets = {"train": train_set, "val": val_set}
dataloaders = {x: DataLoader(image_datasets[x], batch_size=16, shuffle=(x == "train")) for x in ["train", "val"]}
dataset_sizes = {x: len(image_datasets[x]) for x in ["train", "val"]}


# %%
def train_model(model, criterion, optimizer, scheduler, num_epochs):
    since = time.time()
    best_model_wts = deepcopy(model.state_dict())
    best_acc = 0.0
    for epoch in range(num_epochs):
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
            else:
                model.eval()
            running_loss, running_corrects = 0.0, 0
            for inputs, labels in dataloaders[phase]:
                inputs, labels = inputs.to(device), labels.to(device)
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels).item()
            if phase == "train":
                scheduler.step()
            epoch_loss = running_loss / dataset_sizes[phase]
            epoch_acc = running_corrects / dataset_sizes[phase]
            print(f"epoch {epoch} {phase} loss: {epoch_loss:.4f} acc: {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_model_wts = deepcopy(model.state_dict())
    print(f"Training complete in {time.time() - since:.0f}s, best val acc: {best_acc:.4f}")
    model.load_state_dict(best_model_wts)
    return model


# %% ConvNet as fixed feature extractor
model = SmallNet(10)
state_dict = torch.load(weights_file, map_location="cpu")
state_dict = {key.removeprefix("module."): value for key, value in state_dict.items()}
model.load_state_dict(state_dict)
for param in model.parameters():
    param.requires_grad = False

# the new layer has requires_grad=True by default
model.fc = nn.Linear(model.fc.in_features, len(class_names))
optimizer = optim.SGD(model.fc.parameters(), lr=0.03, momentum=0.9)
model = model.to(device)

criterion = nn.CrossEntropyLoss()
scheduler = lr_scheduler.StepLR(optimizer, step_size=14, gamma=0.1)
model = train_model(model, criterion, optimizer, scheduler, num_epochs=20)
