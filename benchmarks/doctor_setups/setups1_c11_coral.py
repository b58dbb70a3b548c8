"""Ordinal regression of price grades with CORAL (Cao et al.): K - 1 cumulative logits with one weight vector."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

NUM_GRADES = 5
HIDDEN = 64
BATCH_SIZE = 50
LEARNING_RATE = 3e-3


class CoralLayer(nn.Module):
    """One score for each sample and a bias for each of the K - 1 questions `grade > k`."""

    def __init__(self, size_in, num_classes):
        super().__init__()
        self.weights = nn.Linear(size_in, 1, bias=False)
        self.biases = nn.Parameter(torch.linspace(1.5, -1.5, num_classes - 1))

    def forward(self, x):
        return self.weights(x) + self.biases


class CoralMLP(nn.Module):
    def __init__(self, size_in, hidden, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(size_in, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.fc = CoralLayer(hidden, num_classes)

    def forward(self, x):
        return self.fc(self.features(x))


def levels_from_labels(labels, num_classes):
    """Grade 2 of 5 becomes 1, 1, 0, 0."""
    return (labels[:, None] > torch.arange(num_classes - 1)).float()


class CoralLoss(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, logits, labels):
        levels = levels_from_labels(labels, self.num_classes)
        log_p = F.logsigmoid(logits)
        # log(1 - sigmoid(z)) = logsigmoid(z) - z
        terms = levels * log_p + (1 - levels) * (log_p - logits)
        return -terms.sum(dim=1).mean()


def load_grades():
    features, price = houses(1600, seed=70)
    train_x, val_x = features[:1200], features[1200:]
    train_price, val_price = price[:1200], price[1200:]
    edges = torch.quantile(train_price, torch.linspace(0, 1, NUM_GRADES + 1)[1:-1])
    mean, std = train_x.mean(0), train_x.std(0)
    train = TensorDataset((train_x - mean) / std, torch.bucketize(train_price, edges))
    val = TensorDataset((val_x - mean) / std, torch.bucketize(val_price, edges))
    return train, val


def setup():
    torch.manual_seed(10)
    train, val = load_grades()
    return {
        "model": CoralMLP(8, HIDDEN, NUM_GRADES),
        "train": DataLoader(train, batch_size=BATCH_SIZE, shuffle=True),
        "val": DataLoader(val, batch_size=100),
        "loss": CoralLoss(NUM_GRADES),
        "optimizer": lambda params: torch.optim.Adam(params, lr=LEARNING_RATE),
    }
