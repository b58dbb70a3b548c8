"""Are two drawings the same digit? A Siamese network, in the manner of the Accelerate examples."""

import copy

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import toydata

MARGIN = 1.2


class PairDataset(Dataset):
    """For each image one pair with another of its class, and one with an image of another class."""

    def __init__(self, images, labels, seed):
        rng = np.random.default_rng(seed)
        self.images = images
        members = [np.flatnonzero(labels == digit) for digit in range(10)]
        self.pairs = []
        for anchor, label in enumerate(labels.tolist()):
            other = (label + int(rng.integers(1, 10))) % 10
            self.pairs.append((anchor, int(rng.choice(members[label])), 1.0))
            self.pairs.append((anchor, int(rng.choice(members[other])), 0.0))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        first, second, same = self.pairs[index]
        return self.images[first], self.images[second], torch.tensor(same)


def get_dataloaders(batch_size):
    pixels, digits = toydata.draw_digits(1500, seed=3)
    rng = np.random.default_rng(0)
    images = (pixels.float() / 255 - 0.17) / 0.3
    labels = digits.numpy()
    order = rng.permutation(len(labels))
    images = images[torch.from_numpy(order)]
    labels = labels[order]
    train = PairDataset(images[:1000], labels[:1000], seed=1)
    val = PairDataset(images[1000:1200], labels[1000:1200], seed=2)
    test = PairDataset(images[1200:], labels[1200:], seed=3)
    train_dataloader = DataLoader(train, batch_size=batch_size, shuffle=True)
    val_dataloader = DataLoader(val, batch_size=128)
    test_dataloader = DataLoader(test, batch_size=128)
    return train_dataloader, val_dataloader, test_dataloader


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.project = nn.Linear(48 * 4 * 4, dim)

    def forward(self, x):
        x = self.features(x).flatten(1)
        return F.normalize(self.project(x), dim=1)


def distance(a, b):
    return ((a - b).pow(2).sum(dim=1) + 1e-9).sqrt()


def contrastive_loss(a, b, same):
    d = distance(a, b)
    pull = same * d.pow(2)
    push = (1 - same) * F.relu(MARGIN - d).pow(2)
    return (pull + push).mean()


def evaluate(accelerator, model, dataloader):
    model.eval()
    distances, answers = [], []
    for first, second, same in dataloader:
        with torch.no_grad():
            d = distance(model(first), model(second))
        d, same = accelerator.gather_for_metrics((d, same))
        distances.append(d.cpu())
        answers.append(same.cpu())
    distances, answers = torch.cat(distances), torch.cat(answers)
    accuracy = ((distances < MARGIN / 2).float() == answers).float().mean().item()
    return {"auc": roc_auc_score(answers.numpy(), -distances.numpy()), "accuracy": accuracy}


def training_function(config):
    accelerator = Accelerator(cpu=True)
    set_seed(config["seed"])
    train_dataloader, val_dataloader, test_dataloader = get_dataloaders(config["batch_size"])
    model = EmbeddingNet()
    optimizer = torch.optim.AdamW(params=model.parameters(), lr=config["lr"])
    model, optimizer, train_dataloader, val_dataloader, test_dataloader = accelerator.prepare(
        model, optimizer, train_dataloader, val_dataloader, test_dataloader
    )

    best_auc, best_state = -1.0, None
    for epoch in range(config["num_epochs"]):
        model.train()
        total_loss = 0.0
        for first, second, same in train_dataloader:
            optimizer.zero_grad()
            loss = contrastive_loss(model(first), model(second), same)
            accelerator.backward(loss)
            optimizer.step()
            total_loss += loss.detach() * len(same)
        train_loss = float(total_loss) / len(train_dataloader.dataset)
        metrics = evaluate(accelerator, model, val_dataloader)
        accelerator.print(f"epoch {epoch}: loss {train_loss:.4f}", metrics)
        if metrics["auc"] > best_auc:
            best_auc = metrics["auc"]
            best_state = copy.deepcopy(accelerator.unwrap_model(model).state_dict())

    accelerator.unwrap_model(model).load_state_dict(best_state)
    accelerator.print("test:", evaluate(accelerator, model, test_dataloader))


def main():
    config = {"lr": 1e-3, "num_epochs": 8, "seed": 42, "batch_size": 64}
    training_function(config)


if __name__ == "__main__":
    main()
