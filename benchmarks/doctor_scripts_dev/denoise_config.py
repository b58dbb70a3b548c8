"""Arguments over a config dictionary, an abstract step of one's own: a denoising autoencoder with PSNR."""

import argparse
import json

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

DEFAULTS = {"lr": 2e-3, "sigma": 0.25, "batch_size": 32, "epochs": 6, "width": 24, "loss": "mse", "warmup": 10}


class NoisyDigits(Dataset):
    def __init__(self, rows, sigma, seed=None):
        bunch = load_digits()
        self.clean = torch.tensor(bunch.images[rows] / 16.0, dtype=torch.float32).unsqueeze(1)
        self.sigma = sigma
        generator = torch.Generator().manual_seed(seed or 0)
        self.fixed = None if seed is None else torch.randn(self.clean.shape, generator=generator)

    def __len__(self):
        return len(self.clean)

    def __getitem__(self, i):
        clean = self.clean[i]
        noise = torch.randn(clean.shape) if self.fixed is None else self.fixed[i]
        return clean + self.sigma * noise, clean


class DnCnn(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width),
            nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1))  # fmt: skip

    def forward(self, noisy):
        return noisy - self.layers(noisy)


LOSSES = {"mse": nn.MSELoss(), "l1": nn.L1Loss()}


def psnr(output, clean):
    return 10 * torch.log10(1.0 / (output - clean).pow(2).mean())


class Experiment:
    def __init__(self, config):
        self.config = config
        self.model = DnCnn(config["width"])
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config["lr"])
        ramp = lambda step: min(1.0, (step + 1) / config["warmup"])  # noqa: E731
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, ramp)
        self.criterion = LOSSES[config["loss"]]
        train_set, val_set = NoisyDigits(slice(0, 1400), config["sigma"]), NoisyDigits(slice(1400, None), config["sigma"], 3)
        self.train_loader = DataLoader(train_set, config["batch_size"], shuffle=True)
        self.val_loader = DataLoader(val_set, 99)

    def training_step(self, noisy, clean):
        output = self.model(noisy)
        loss = self.criterion(output, clean)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return loss.detach()

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        values = [psnr(self.model(noisy), clean) for noisy, clean in self.val_loader]
        return torch.stack(values).mean().item()

    def run(self):
        for epoch in range(self.config["epochs"]):
            self.model.train()
            for noisy, clean in self.train_loader:
                loss = self.training_step(noisy, clean)
            print(json.dumps({"epoch": epoch, "loss": loss.item(), "psnr": self.validate()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for key, value in DEFAULTS.items():
        parser.add_argument(f"--{key}", type=type(value), default=value)
    torch.manual_seed(2)
    Experiment(vars(parser.parse_args())).run()
