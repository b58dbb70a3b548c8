# Blind denoising of digits with a residual CNN, run through Accelerate.
# The noise of the training images grows from epoch to epoch; that of the evaluation images is drawn once.
import argparse
import math
import os
import tempfile

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.optim.lr_scheduler import CosineAnnealingLR

from toydata import draw_digits


class DnCNN(nn.Module):
    """Predicts the noise and takes it off. The last layer starts at zero: at first the image is given back."""

    def __init__(self, width=20, dilations=(1, 2, 1)):
        super().__init__()
        layers = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU()]
        for d in dilations:
            layers += [
                nn.Conv2d(width, width, 3, padding=d, dilation=d, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.tail = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)

    def forward(self, noisy):
        return noisy - self.tail(self.body(noisy))


def charbonnier(prediction, target, eps=1e-3):
    return torch.sqrt((prediction - target) ** 2 + eps**2).mean()


def psnr(mse):
    return -10.0 * math.log10(mse)


def clean_images(count, seed):
    images, _ = draw_digits(count, seed=seed, noise=0.02)
    return images.float() / 255.0


def noise_ceiling(epoch, config):
    """Largest standard deviation of the noise in this epoch."""
    share = min(1.0, epoch / max(1, config["num_epochs"] // 2))
    return config["first_sigma"] + share * (config["last_sigma"] - config["first_sigma"])


def get_dataloaders(config):
    train_set = TensorDataset(clean_images(1000, seed=0))
    clean = clean_images(240, seed=1)
    generator = torch.Generator().manual_seed(1234)
    noisy = clean + config["eval_sigma"] * torch.randn(clean.shape, generator=generator)
    train_dataloader = DataLoader(train_set, shuffle=True, batch_size=config["batch_size"], drop_last=True)
    eval_dataloader = DataLoader(TensorDataset(noisy, clean), shuffle=False, batch_size=80)
    return train_dataloader, eval_dataloader


@torch.no_grad()
def evaluate(accelerator, model, eval_dataloader):
    model.eval()
    before, after, pixels = 0.0, 0.0, 0
    for noisy, clean in eval_dataloader:
        restored = model(noisy)
        noisy, restored, clean = accelerator.gather_for_metrics((noisy, restored, clean))
        before += (noisy - clean).pow(2).sum().item()
        after += (restored - clean).pow(2).sum().item()
        pixels += clean.numel()
    return psnr(before / pixels), psnr(after / pixels)


def training_function(config, args):
    accelerator = Accelerator(cpu=True)
    set_seed(config["seed"])
    train_dataloader, eval_dataloader = get_dataloaders(config)
    model = DnCNN()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-4)
    lr_scheduler = CosineAnnealingLR(optimizer, T_max=config["num_epochs"] * len(train_dataloader))
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    best = float("-inf")
    for epoch in range(config["num_epochs"]):
        model.train()
        ceiling = noise_ceiling(epoch, config)
        total_loss = 0.0
        for (clean,) in train_dataloader:
            sigma = 0.05 + (ceiling - 0.05) * torch.rand(len(clean), 1, 1, 1, device=clean.device)
            noisy = clean + sigma * torch.randn_like(clean)
            restored = model(noisy)
            loss = charbonnier(restored, clean)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            total_loss += loss.detach()

        before, after = evaluate(accelerator, model, eval_dataloader)
        accelerator.print(
            f"epoch {epoch}: noise up to {ceiling:.2f}, train loss {total_loss.item() / len(train_dataloader):.4f}, "
            f"PSNR {before:.2f} dB -> {after:.2f} dB"
        )
        if after > best:
            best = after
            path = os.path.join(args.output_dir, "denoiser.pt")
            accelerator.save(accelerator.unwrap_model(model).state_dict(), path)
    accelerator.print(f"best PSNR {best:.2f} dB")


def main():
    parser = argparse.ArgumentParser(description="Denoising with a curriculum of noise.")
    parser.add_argument("--output_dir", type=str, default=tempfile.mkdtemp())
    args = parser.parse_args()
    config = {
        "lr": 3e-3,
        "num_epochs": 9,
        "seed": 42,
        "batch_size": 40,
        "first_sigma": 0.15,
        "last_sigma": 0.6,
        "eval_sigma": 0.4,
    }
    training_function(config, args)


if __name__ == "__main__":
    main()
