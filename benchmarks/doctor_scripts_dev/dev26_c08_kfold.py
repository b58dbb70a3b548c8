"""Stratified four-fold cross validation, then the folds' networks vote on a test set that none of them has seen."""

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from toydata import draw_digits

N_SPLITS = 4
EPOCHS = 9
BATCH_SIZE = 50
SEED = 2024


def set_seed(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        # normalization by the statistics of the training fold is a part of the network
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.conv = nn.Sequential(
            nn.Conv2d(1, 20, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 40, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(40 * 16, 80), nn.ReLU(), nn.Dropout(0.25), nn.Linear(80, 10))

    def set_statistics(self, images):
        self.mean.copy_(images.mean())
        self.std.copy_(images.std())

    def forward(self, x):
        return self.fc(self.conv((x - self.mean) / self.std))


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * x.size(0)
    return total / len(loader.dataset)


def predict(model, loader):
    model.eval()
    probabilities, targets = [], []
    with torch.no_grad():
        for x, y in loader:
            probabilities.append(model(x).softmax(dim=1))
            targets.append(y)
    return torch.cat(probabilities).numpy(), torch.cat(targets).numpy()


def run_fold(fold, dataset, train_idx, val_idx):
    print(f"--- fold {fold}: {len(train_idx)} for training, {len(val_idx)} for validation")
    model = ConvNet()
    model.set_statistics(dataset.tensors[0][train_idx])
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.5e-3)
    train_loader = DataLoader(Subset(dataset, train_idx.tolist()), batch_size=BATCH_SIZE, shuffle=True)
    val_loader = DataLoader(Subset(dataset, val_idx.tolist()), batch_size=250)
    best_acc, best_state = 0.0, None
    for epoch in range(EPOCHS):
        train_loss = train_one_epoch(model, train_loader, criterion, optimizer)
        probabilities, targets = predict(model, val_loader)
        val_acc = (probabilities.argmax(axis=1) == targets).mean()
        print(f"fold {fold} epoch {epoch}: train loss {train_loss:.4f} val acc {val_acc:.4f}")
        if val_acc > best_acc:
            best_acc = val_acc
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(best_state)
    return model, best_acc


def main():
    set_seed(SEED)
    images, labels = draw_digits(2000, seed=30)
    dataset = TensorDataset(images.float() / 255, labels)
    test_images, test_labels = draw_digits(500, seed=31)
    test_loader = DataLoader(TensorDataset(test_images.float() / 255, test_labels), batch_size=250)

    skf = StratifiedKFold(n_splits=N_SPLITS, shuffle=True, random_state=SEED)
    scores, test_probabilities = [], np.zeros((len(test_labels), 10))
    for fold, (train_idx, val_idx) in enumerate(skf.split(np.zeros(len(labels)), labels.numpy())):
        model, score = run_fold(fold, dataset, train_idx, val_idx)
        scores.append(score)
        probabilities, test_targets = predict(model, test_loader)
        test_probabilities += probabilities / N_SPLITS

    print(f"cross validation accuracy: {np.mean(scores):.4f} +- {np.std(scores):.4f}")
    print(f"test accuracy of the ensemble: {(test_probabilities.argmax(axis=1) == test_targets).mean():.4f}")


if __name__ == "__main__":
    main()
