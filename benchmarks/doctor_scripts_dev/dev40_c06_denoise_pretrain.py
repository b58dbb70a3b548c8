"""Self-supervised pretraining (filling in masked, noisy digits), then classification with the encoder that it gave."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


@dataclass
class Config:
    images: int = 2000
    held_out: int = 400
    batch_size: int = 64
    pretrain_epochs: int = 6
    finetune_epochs: int = 7
    mask_share: float = 0.3
    noise: float = 0.2
    pretrain_lr: float = 2e-3
    encoder_lr: float = 5e-4
    head_lr: float = 2e-3
    weight_decay: float = 1e-2
    seed: int = 11


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        )

    def forward(self, x):
        return self.layers(x)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(16, 1, 3, padding=1),
        )

    def forward(self, z):
        return self.layers(z)


class Classifier(nn.Module):
    def __init__(self, encoder, classes=10):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * 4 * 4, 96), nn.ReLU(), nn.Dropout(0.3), nn.Linear(96, classes))

    def forward(self, x):
        return self.head(self.encoder(x))


def load(config):
    images, labels = draw_digits(config.images, seed=config.seed)
    images = images.float() / 255
    cut = config.images - config.held_out
    mean, std = images[:cut].mean(), images[:cut].std()
    images = (images - mean) / std
    return TensorDataset(images[:cut], labels[:cut]), TensorDataset(images[cut:], labels[cut:])


def corrupt(x, config):
    keep = (torch.rand_like(x) > config.mask_share).float()
    return (x + config.noise * torch.randn_like(x)) * keep


def pretrain(config, train_set, val_set):
    loader = DataLoader(train_set, config.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, 200)
    encoder, decoder = Encoder(), Decoder()
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=config.pretrain_lr)
    for epoch in range(config.pretrain_epochs):
        encoder.train(), decoder.train()
        for x, _ in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(decoder(encoder(corrupt(x, config))), x)
            loss.backward()
            optimizer.step()
        encoder.eval(), decoder.eval()
        with torch.no_grad():
            squared = sum(((decoder(encoder(corrupt(x, config))) - x) ** 2).sum().item() for x, _ in val_loader)
        print(f"pretrain {epoch}: held-out mse {squared / (len(val_set) * 16 * 16):.4f}")
    return encoder


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


def finetune(config, encoder, train_set, val_set):
    loader = DataLoader(train_set, config.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, 200)
    model = Classifier(encoder)
    optimizer = torch.optim.AdamW(
        [
            {"params": model.encoder.parameters(), "lr": config.encoder_lr},
            {"params": model.head.parameters(), "lr": config.head_lr},
        ],
        weight_decay=config.weight_decay,
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.finetune_epochs)
    for epoch in range(config.finetune_epochs):
        model.train()
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(f"finetune {epoch}: held-out accuracy {evaluate(model, val_loader):.3f}")
    return model


def main():
    config = Config()
    torch.manual_seed(config.seed)
    train_set, val_set = load(config)
    encoder = pretrain(config, train_set, val_set)
    finetune(config, encoder, train_set, val_set)


if __name__ == "__main__":
    main()
