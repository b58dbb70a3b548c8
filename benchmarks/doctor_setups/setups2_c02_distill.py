"""Student of a teacher's soft labels (dark knowledge), MLP on a table."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

NUM_CLASSES = 5
NUM_FEATURES = 12
HPARAMS = {"hidden": 64, "dropout": 0.1, "lr": 3e-3, "batch_size": 50}


def teacher_probabilities(features, centers, temperature=1.5):
    """The teacher: the posterior of five clusters, softened."""
    distances = torch.cdist(features, centers).pow(2)
    return F.softmax(-0.5 * distances / temperature, dim=1)


def make_split(count, centers, generator):
    component = torch.randint(0, NUM_CLASSES, (count,), generator=generator)
    features = centers[component] + torch.randn(count, NUM_FEATURES, generator=generator)
    return features, teacher_probabilities(features, centers)


class Student(nn.Module):
    def __init__(self, hidden, dropout):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(NUM_FEATURES, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
        )
        self.classifier = nn.Linear(hidden, NUM_CLASSES)
        self.reset_parameters()

    def reset_parameters(self):
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.classifier(self.body(x))


def soft_cross_entropy(logits, teacher):
    return -(teacher * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def make_optimizer(params):
    return torch.optim.AdamW(params, lr=HPARAMS["lr"], weight_decay=1e-3)


def setup():
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(3)
    centers = torch.randn(NUM_CLASSES, NUM_FEATURES, generator=generator) * 0.9
    x_train, p_train = make_split(1500, centers, generator)
    x_val, p_val = make_split(400, centers, generator)
    mean, std = x_train.mean(0), x_train.std(0)
    train = TensorDataset((x_train - mean) / std, p_train)
    val = TensorDataset((x_val - mean) / std, p_val)
    return {
        "model": Student(HPARAMS["hidden"], HPARAMS["dropout"]),
        "train": DataLoader(train, batch_size=HPARAMS["batch_size"], shuffle=True),
        "val": DataLoader(val, batch_size=100),
        "loss": soft_cross_entropy,
        "optimizer": make_optimizer,
    }
