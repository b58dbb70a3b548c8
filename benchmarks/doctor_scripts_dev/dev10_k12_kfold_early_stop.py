"""Four-fold cross-validation of shape classification with early stopping; each fold has a network of its own, and the four
vote on a test set that no fold has seen."""

import copy
import logging

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from toydata import Shapes

logging.basicConfig(level=logging.INFO, format="%(message)s")
log = logging.getLogger("kfold")

FOLDS = 4
MAX_EPOCHS = 10
PATIENCE = 3


def standardize(image):
    return (image - 0.5) / 0.2


def new_network():
    return nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1),
        nn.BatchNorm2d(20),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 40, 3, padding=1),
        nn.BatchNorm2d(40),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Conv2d(40, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(64 * 16, 6),
    )


class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.bad, self.best, self.state = patience, 0, float("inf"), None

    def step(self, value, network):
        if value < self.best:
            self.best, self.bad = value, 0
            self.state = copy.deepcopy(network.state_dict())
        else:
            self.bad += 1
        return self.bad >= self.patience


def folds_of(count, folds, seed):
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    parts = order.chunk(folds)
    for i in range(folds):
        rest = torch.cat([part for j, part in enumerate(parts) if j != i])
        yield rest.tolist(), parts[i].tolist()


@torch.no_grad()
def predict(network, loader):
    network.eval()
    outputs, targets = [], []
    for images, labels in loader:
        outputs.append(network(images))
        targets.append(labels)
    return torch.cat(outputs), torch.cat(targets)


def train_fold(number, data, train_indices, val_indices):
    train_loader = DataLoader(Subset(data, train_indices), batch_size=60, shuffle=True)
    val_loader = DataLoader(Subset(data, val_indices), batch_size=200, shuffle=False)
    network, criterion = new_network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1.5e-3, weight_decay=1e-2)
    stopping = EarlyStopping(PATIENCE)
    for epoch in range(MAX_EPOCHS):
        network.train()
        total = torch.zeros(())
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(network(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(labels)
        logits, targets = predict(network, val_loader)
        val_loss = criterion(logits, targets).item()
        accuracy = (logits.argmax(1) == targets).float().mean().item()
        log.info(
            "fold %d epoch %2d train %.4f val %.4f accuracy %.4f",
            number, epoch, total.item() / len(train_indices), val_loss, accuracy,
        )
        if stopping.step(val_loss, network):
            log.info("fold %d stops", number)
            break
    network.load_state_dict(stopping.state)
    return network, stopping.best


def main():
    torch.manual_seed(0)
    data = Shapes(train=True, count=2000, transform=standardize)
    test_loader = DataLoader(Shapes(train=False, count=400, transform=standardize), batch_size=200)
    networks, losses = [], []
    for number, (train_indices, val_indices) in enumerate(folds_of(len(data), FOLDS, seed=1)):
        network, loss = train_fold(number, data, train_indices, val_indices)
        networks.append(network)
        losses.append(loss)
    log.info("cross-validated loss %.4f", sum(losses) / FOLDS)
    votes = torch.zeros(400, 6)
    for network in networks:
        logits, targets = predict(network, test_loader)
        votes += logits.softmax(dim=1)
    log.info("ensemble test accuracy %.4f", (votes.argmax(1) == targets).float().mean().item())


if __name__ == "__main__":
    main()
