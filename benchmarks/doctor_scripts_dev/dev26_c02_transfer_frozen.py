# %% [markdown]
# # Transfer learning with digits
# A network is pretrained on the digits 0 to 5. Then its convolutions are frozen,
# and a new head learns to tell 6, 7, 8 and 9 apart.

# %%
import copy

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(0)

SOURCE, TARGET = [0, 1, 2, 3, 4, 5], [6, 7, 8, 9]
MEAN, STD = 0.17, 0.30


def make_dataset(classes, count, seed):
    images, labels = draw_digits(count, seed=seed)
    chosen = torch.tensor(classes)
    keep = torch.isin(labels, chosen)
    images = (images[keep].float() / 255 - MEAN) / STD
    return TensorDataset(images, torch.searchsorted(chosen, labels[keep]))


# %%
source_train = DataLoader(make_dataset(SOURCE, 3500, seed=100), batch_size=64, shuffle=True, drop_last=True)
source_valid = DataLoader(make_dataset(SOURCE, 600, seed=101), batch_size=200)
target_train = DataLoader(make_dataset(TARGET, 3500, seed=102), batch_size=32, shuffle=True, drop_last=True)
target_valid = DataLoader(make_dataset(TARGET, 900, seed=103), batch_size=200)


# %%
def conv_block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


def make_body():
    return nn.Sequential(conv_block(1, 32), conv_block(32, 48), nn.Flatten())  # 48 x 4 x 4


class Transfer(nn.Module):
    """A frozen body, whose batch norm keeps the statistics of pretraining, and a head that learns."""

    def __init__(self, body, classes):
        super().__init__()
        self.body = body
        self.head = nn.Sequential(nn.Linear(48 * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, classes))
        for parameter in self.body.parameters():
            parameter.requires_grad = False

    def train(self, mode=True):
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, x):
        return self.head(self.body(x))


# %%
@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    loss, right, count = 0.0, 0, 0
    for images, labels in loader:
        outputs = model(images)
        loss += nn.functional.cross_entropy(outputs, labels, reduction="sum").item()
        right += (outputs.argmax(1) == labels).sum().item()
        count += len(labels)
    return loss / count, right / count


def fit(model, optimizer, train_loader, valid_loader, epochs, title):
    best, kept = 0.0, None
    for epoch in range(1, epochs + 1):
        model.train()
        total, count = 0.0, 0
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
            count += len(labels)
        valid_loss, accuracy = evaluate(model, valid_loader)
        print(f"{title} {epoch:2d}: train loss {total / count:.4f}, valid loss {valid_loss:.4f}, accuracy {accuracy:.3f}")
        if accuracy > best:
            best, kept = accuracy, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return best


# %% Pretraining
pretrained = nn.Sequential(make_body(), nn.Linear(48 * 4 * 4, len(SOURCE)))
fit(pretrained, optim.Adam(pretrained.parameters(), lr=1e-3), source_train, source_valid, 8, "pretraining")

# %% Transfer
model = Transfer(copy.deepcopy(pretrained[0]), len(TARGET))
optimizer = optim.Adam(model.head.parameters(), lr=1e-3)
before = model.body[0][0].weight.clone()
best = fit(model, optimizer, target_train, target_valid, 15, "transfer")
assert torch.equal(before, model.body[0][0].weight)
print(f"best accuracy on the new digits: {best:.3f}")
