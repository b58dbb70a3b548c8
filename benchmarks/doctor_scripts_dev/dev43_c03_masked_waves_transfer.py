"""Fill in hidden patches of unlabeled signals, then transfer the encoder: linear probe first, full tuning afterwards."""
import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import toydata


@dataclass
class Config:
    seed: int = 17
    patch: int = 8
    hidden_patches: int = 3
    unlabeled: int = 1200
    labeled: int = 500
    pretrain_epochs: int = 15
    probe_epochs: int = 6
    tune_epochs: int = 15
    pretrain_lr: float = 2e-3
    probe_lr: float = 5e-3
    encoder_lr: float = 1e-3
    head_lr: float = 2e-3


class Encoder(nn.Module):
    channels = 64

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, 32, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Conv1d(32, 64, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Conv1d(64, self.channels, 5, padding=2, bias=False),
            nn.BatchNorm1d(self.channels),
            nn.ReLU(),
        )

    def forward(self, signal):
        return self.net(signal)


def make_decoder(channels):
    return nn.Sequential(
        nn.ConvTranspose1d(channels, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose1d(32, 1, 4, stride=2, padding=1),
    )


class Classifier(nn.Module):
    def __init__(self, encoder, classes):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(2 * encoder.channels, classes)
        self.probing = False

    def train(self, mode=True):
        super().train(mode)
        if self.probing:
            self.encoder.eval()
        return self

    def probe(self, on):
        self.probing = on
        self.encoder.requires_grad_(not on)

    def forward(self, signal):
        features = self.encoder(signal)
        return self.head(torch.cat([features.mean(-1), features.amax(-1)], dim=1))


def hide(signal, cfg, generator=None):
    count, _, length = signal.shape
    rank = torch.rand(count, length // cfg.patch, generator=generator).argsort(dim=1)
    return (rank < cfg.hidden_patches).repeat_interleave(cfg.patch, dim=1).unsqueeze(1)


def fill_in_loss(encoder, decoder, signal, hidden):
    filled = decoder(encoder(signal * ~hidden))
    return (filled - signal)[hidden].pow(2).mean()


def pretrain(cfg):
    signals, _ = toydata.waves(count=cfg.unlabeled, seed=7)
    held_out, _ = toydata.waves(count=200, seed=8)
    hidden = hide(held_out, cfg, torch.Generator().manual_seed(0))
    encoder, decoder = Encoder(), make_decoder(Encoder.channels)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=cfg.pretrain_lr)
    for epoch in range(cfg.pretrain_epochs):
        encoder.train()
        for (signal,) in DataLoader(TensorDataset(signals), batch_size=64, shuffle=True):
            loss = fill_in_loss(encoder, decoder, signal, hide(signal, cfg))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        encoder.eval()
        with torch.no_grad():
            error = fill_in_loss(encoder, decoder, held_out, hidden)
        print(f"pretrain {epoch:2d}  error on hidden patches {error:.4f}")
    return encoder


@torch.no_grad()
def accuracy(model, signals, labels):
    model.eval()
    return (model(signals).argmax(dim=1) == labels).float().mean().item()


def fit(model, optimizer, scheduler, epochs, train_loader, val_data, tag):
    best_accuracy, best_state = -1.0, None
    for epoch in range(epochs):
        model.train()
        for signal, label in train_loader:
            loss = F.cross_entropy(model(signal), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        score = accuracy(model, *val_data)
        print(f"{tag} {epoch:2d}  loss {loss.item():.3f}  val {score:.3f}")
        if score >= best_accuracy:
            best_accuracy, best_state = score, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)


def main(cfg):
    torch.manual_seed(cfg.seed)
    encoder = pretrain(cfg)

    signals, labels = toydata.waves(count=cfg.labeled, seed=0)
    order = torch.randperm(cfg.labeled)
    train_index, val_index = order[100:], order[:100]
    train_data = TensorDataset(signals[train_index], labels[train_index])
    train_loader = DataLoader(train_data, batch_size=32, shuffle=True, drop_last=True)
    val_data = signals[val_index], labels[val_index]

    model = Classifier(encoder, classes=4)
    model.probe(True)
    optimizer = torch.optim.AdamW(model.head.parameters(), lr=cfg.probe_lr)
    flat = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    fit(model, optimizer, flat, cfg.probe_epochs, train_loader, val_data, "probe")

    model.probe(False)
    groups = [{"params": model.encoder.parameters(), "lr": cfg.encoder_lr}, {"params": model.head.parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=cfg.head_lr)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.tune_epochs)
    fit(model, optimizer, cosine, cfg.tune_epochs, train_loader, val_data, "tune")
    print(f"test accuracy {accuracy(model, *toydata.waves(count=300, seed=1)):.3f}")


if __name__ == "__main__":
    main(Config())
