"""Finds broken sensors of a machine with an autoencoder that has seen only healthy days (Accelerate)."""

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

SENSORS, STATES = 24, 4
config = {"epochs": 40, "batch_size": 64, "lr": 1e-3, "latent": 6, "seed": 0}


class Machine:
    """Twenty-four sensors, in all kinds of units, that follow four hidden states."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.inner = self.rng.normal(0, 0.7, (STATES, 32))
        self.outer = self.rng.normal(0, 1, (32, SENSORS)) / np.sqrt(32)
        self.unit = 10 ** self.rng.uniform(-1, 3, SENSORS)
        self.offset = self.unit * self.rng.uniform(2, 5, SENSORS)

    def healthy(self, count):
        states = self.rng.normal(0, 1, (count, STATES))
        signals = np.tanh(states @ self.inner) @ self.outer
        signals = signals + 0.05 * self.rng.normal(0, 1, signals.shape)
        return (self.offset + self.unit * signals).astype(np.float32)

    def broken(self, count, sensors=3):
        """Some sensors show what they showed another day."""
        rows, others = self.healthy(count), self.healthy(count)
        for row, other in zip(rows, others):
            which = self.rng.choice(SENSORS, sensors, replace=False)
            row[which] = other[which]
        return rows


def make_encoder(latent):
    return nn.Sequential(
        nn.Linear(SENSORS, 256), nn.ReLU(),
        nn.Linear(256, 128), nn.ReLU(),
        nn.Linear(128, latent),
    )  # fmt: skip


def make_decoder(latent):
    return nn.Sequential(
        nn.Linear(latent, 128), nn.ReLU(),
        nn.Linear(128, 256), nn.ReLU(),
        nn.Linear(256, SENSORS),
    )  # fmt: skip


def make_scaler(rows):
    mean, std = rows.mean(axis=0), rows.std(axis=0)

    def scale(values):
        return torch.from_numpy((values - mean) / std)

    return scale


def training_function(config):
    set_seed(config["seed"])
    accelerator = Accelerator(cpu=True)

    machine = Machine(seed=5)
    train_rows = machine.healthy(6400)
    val_rows = np.concatenate([machine.healthy(1000), machine.broken(250)])
    is_broken = np.concatenate([np.zeros(1000), np.ones(250)]).astype(int)

    scale = make_scaler(train_rows)
    train_data, val_data = scale(train_rows), scale(val_rows)
    train_loader = DataLoader(TensorDataset(train_data), batch_size=config["batch_size"], shuffle=True)

    encoder, decoder = make_encoder(config["latent"]), make_decoder(config["latent"])
    parameters = list(encoder.parameters()) + list(decoder.parameters())
    optimizer = optim.Adam(parameters, lr=config["lr"])
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)
    encoder, decoder, optimizer, train_loader = accelerator.prepare(encoder, decoder, optimizer, train_loader)

    def train_epoch():
        encoder.train()
        decoder.train()
        total, count = 0.0, 0
        for (batch,) in train_loader:
            optimizer.zero_grad()
            restored = decoder(encoder(batch))
            loss = F.mse_loss(restored, batch)
            accelerator.backward(loss)
            optimizer.step()
            total += loss.item() * len(batch)
            count += len(batch)
        return total / count

    def errors(data):
        """Mean squared error of reconstruction of each row: the score of anomaly."""
        encoder.eval()
        decoder.eval()
        with torch.no_grad():
            return ((decoder(encoder(data)) - data) ** 2).mean(dim=1).numpy()

    for epoch in range(config["epochs"]):
        train_loss = train_epoch()
        scheduler.step()
        scores = errors(val_data)
        auc = roc_auc_score(is_broken, scores)
        healthy_error = scores[is_broken == 0].mean()
        accelerator.print(
            f"epoch {epoch + 1:2d}  train error {train_loss:.4f}  val error {healthy_error:.4f}  AUC {auc:.3f}"
        )

    # the alarm: rarer than one in fifty on healthy days
    limit = np.quantile(errors(train_data), 0.98)
    alarms = (errors(val_data) > limit).astype(int)
    accelerator.print(f"limit {limit:.4f}: F1 {f1_score(is_broken, alarms):.3f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    training_function(config)
