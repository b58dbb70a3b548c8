"""Imbalanced tabular classification: weighted sampler, bf16 autocast."""

import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

config = {
    "n_samples": 2000,
    "n_features": 16,
    "n_classes": 3,
    "class_share": [0.78, 0.14, 0.08],
    "hidden": [64, 64],
    "dropout": 0.1,
    "batch_size": 64,
    "lr": 2e-3,
    "weight_decay": 1e-4,
}


def load_data(cfg):
    X, y = make_classification(
        n_samples=cfg["n_samples"], n_features=cfg["n_features"], n_informative=8, n_redundant=2,
        n_classes=cfg["n_classes"], n_clusters_per_class=1, weights=cfg["class_share"],
        class_sep=1.8, flip_y=0.0, random_state=3,
    )  # fmt: skip
    X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    scaler = StandardScaler().fit(X_train)
    X_train, X_val = scaler.transform(X_train), scaler.transform(X_val)
    return X_train.astype(np.float32), X_val.astype(np.float32), y_train.astype(np.int64), y_val.astype(np.int64)


def build_sampler(y, counts):
    class_weights = 1.0 / counts
    return WeightedRandomSampler(torch.as_tensor(class_weights[y]), num_samples=len(y), replacement=True)


def build_criterion(counts):
    return nn.CrossEntropyLoss()


class MLP(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        layers, width = [], cfg["n_features"]
        for hidden in cfg["hidden"]:
            layers += [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(cfg["dropout"])]
            width = hidden
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, cfg["n_classes"])

    def forward(self, x):
        return self.head(self.body(x))


def train_step(model, batch, optimizer, loss):
    x, y = batch
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(x)
    value = loss(logits.float(), y)
    value.backward()  # bfloat16 has the range of float32: no scaler
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return value.detach()


def setup():
    torch.manual_seed(3)
    X_train, X_val, y_train, y_val = load_data(config)
    counts = np.bincount(y_train, minlength=config["n_classes"]).astype(np.float64)
    train_set = TensorDataset(torch.from_numpy(X_train), torch.from_numpy(y_train))
    val_set = TensorDataset(torch.from_numpy(X_val), torch.from_numpy(y_val))
    return {
        "model": MLP(config),
        "train": DataLoader(train_set, batch_size=config["batch_size"], sampler=build_sampler(y_train, counts)),
        "val": DataLoader(val_set, batch_size=250),
        "loss": build_criterion(counts),
        "optimizer": lambda params: torch.optim.AdamW(params, lr=config["lr"], weight_decay=config["weight_decay"]),
        "step": train_step,
        "task": "classify",
    }
