"""Half of the digits are rare in training; the loss makes up for it. Stops early and keeps the best epoch."""

import copy

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def rare_digits(count, seed, keep=0.3):
    """Keeps all of 0 to 4 and a part of 5 to 9."""
    images, labels = draw_digits(count, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    kept = (labels < 5) | (torch.rand(count, generator=generator) < keep)
    return images[kept], labels[kept]


class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.best, self.waited, self.state = patience, float("-inf"), 0, None

    def __call__(self, score, model):
        if score > self.best:
            self.best, self.waited = score, 0
            self.state = copy.deepcopy(model.state_dict())
        else:
            self.waited += 1
        return self.waited >= self.patience


class Trainer:
    def __init__(self, model, train_loader, val_loader, class_weights, lr=1e-3, max_epochs=25, patience=8):
        self.model = model
        self.train_loader, self.val_loader = train_loader, val_loader
        self.criterion = nn.CrossEntropyLoss(weight=class_weights)
        self.optimizer = optim.Adam(model.parameters(), lr=lr)
        self.scheduler = optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, mode="max", factor=0.3, patience=3)
        self.stopper = EarlyStopping(patience)
        self.max_epochs = max_epochs

    def train_step(self, images, labels):
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def train_epoch(self):
        self.model.train()
        losses = [self.train_step(images, labels) for images, labels in self.train_loader]
        return sum(losses) / len(losses)

    @torch.inference_mode()
    def recalls(self, loader):
        self.model.eval()
        hits, counts = torch.zeros(10), torch.zeros(10)
        for images, labels in loader:
            predictions = self.model(images).argmax(-1)
            hits += torch.bincount(labels[predictions == labels], minlength=10)
            counts += torch.bincount(labels, minlength=10)
        return hits / counts

    def fit(self):
        for epoch in range(self.max_epochs):
            loss = self.train_epoch()
            recalls = self.recalls(self.val_loader)
            score = recalls.mean().item()
            self.scheduler.step(score)
            print(
                f"epoch {epoch + 1}: loss {loss:.4f}, balanced accuracy {score:.4f}, "
                f"frequent {recalls[:5].mean():.4f}, rare {recalls[5:].mean():.4f}"
            )
            if self.stopper(score, self.model):
                print("no better for a while, stopping")
                break
        self.model.load_state_dict(self.stopper.state)
        return self.stopper.best


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(32), nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.25)
        self.fc1 = nn.Linear(64 * 4 * 4, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = self.pool(torch.relu(self.bn2(self.conv2(x))))
        x = self.dropout(x.flatten(1))
        return self.fc2(self.dropout(torch.relu(self.fc1(x))))


def main():
    torch.manual_seed(1)
    images, labels = rare_digits(5000, seed=0)
    val_images, val_labels = draw_digits(500, seed=1)
    test_images, test_labels = draw_digits(500, seed=2)
    mean, std = (images / 255).mean(), (images / 255).std()

    def dataset(images, labels):
        return TensorDataset((images / 255 - mean) / std, labels)

    counts = torch.bincount(labels, minlength=10).float()
    weights = counts.sum() / (10 * counts)
    print("samples per class", counts.int().tolist())

    trainer = Trainer(
        Net(),
        DataLoader(dataset(images, labels), batch_size=64, shuffle=True),
        DataLoader(dataset(val_images, val_labels), batch_size=250),
        class_weights=weights,
    )
    best = trainer.fit()
    test = trainer.recalls(DataLoader(dataset(test_images, test_labels), batch_size=250)).mean()
    print(f"best balanced accuracy {best:.4f}, of the test set {test:.4f}")


if __name__ == "__main__":
    main()
