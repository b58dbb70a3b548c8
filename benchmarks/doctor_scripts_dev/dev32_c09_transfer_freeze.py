"""Transfer: pretrain on digits 0 to 5, then a new head for 6 to 9, first frozen, then everything fine-tuned."""

import copy

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(11)


def prepare(count, seed, wanted):
    images, labels = draw_digits(count, seed=seed)
    keep = torch.isin(labels, torch.tensor(wanted))
    return TensorDataset((images[keep].float() / 255 - 0.2) / 0.35, labels[keep] - wanted[0])


class Classifier(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(64 * 16, classes)
        self.frozen = False

    def freeze(self, frozen=True):
        self.frozen = frozen
        for parameter in self.backbone.parameters():
            parameter.requires_grad = not frozen
        return self

    def train(self, mode=True):
        super().train(mode)
        if self.frozen:  # statistics of frozen batch norms stay as they are
            self.backbone.eval()
        return self

    def forward(self, x):
        return self.head(self.backbone(x))


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    hits = [(model(x).argmax(1) == y) for x, y in loader]
    return torch.cat(hits).float().mean().item()


def fit(name, model, train_loader, val_loader, optimizer, epochs):
    criterion = nn.CrossEntropyLoss()
    best, best_state = -1.0, None
    for epoch in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        accuracy = evaluate(model, val_loader)
        print(f"{name} epoch {epoch + 1}: loss {loss.item():.4f} val accuracy {accuracy:.3f}")
        if accuracy > best:
            best, best_state = accuracy, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    return best


OLD, NEW = list(range(0, 6)), list(range(6, 10))
old_train = DataLoader(prepare(2400, 0, OLD), 40, shuffle=True, drop_last=True)
old_val = DataLoader(prepare(400, 1, OLD), 200)
new_train = DataLoader(prepare(1200, 2, NEW), 24, shuffle=True, drop_last=True)
new_val = DataLoader(prepare(500, 3, NEW), 200)

source = Classifier(len(OLD))
fit("pretrain", source, old_train, old_val, torch.optim.Adam(source.parameters(), lr=1e-3), 10)

model = Classifier(len(NEW))
model.backbone.load_state_dict(source.backbone.state_dict())
model.freeze()
fit("frozen  ", model, new_train, new_val, torch.optim.Adam(model.head.parameters(), lr=1e-3), 6)

model.freeze(False)
groups = [{"params": model.backbone.parameters(), "lr": 2e-4}, {"params": model.head.parameters(), "lr": 1e-3}]
best = fit("finetune", model, new_train, new_val, torch.optim.Adam(groups), 10)
print(f"best accuracy on digits 6 to 9: {best:.3f}")
