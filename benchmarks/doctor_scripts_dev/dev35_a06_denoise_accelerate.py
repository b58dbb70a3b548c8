"""Denoising digits with Hugging Face Accelerate and an exponential moving average of the weights."""

import argparse
import copy

import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

from toydata import Digits


class NoisyDigits(Dataset):
    """Pairs of a noisy and a clean image, with values from -1 to 1. Noise of validation images is always the same."""

    def __init__(self, train, sigma):
        self.images = Digits(train=train, noise=0.0).data.float() / 127.5 - 1
        self.train = train
        self.sigma = sigma

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        clean = self.images[index]
        generator = None if self.train else torch.Generator().manual_seed(index)
        noise = self.sigma * torch.randn(clean.shape, generator=generator)
        noisy = clean + noise
        return {"noisy": noisy, "clean": clean}


class ConvUnit(nn.Sequential):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(
            nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
        )


class Denoiser(nn.Module):
    def __init__(self, channels=1, width=16):
        super().__init__()
        self.stem = ConvUnit(channels, width)
        self.down = ConvUnit(width, 2 * width, stride=2)
        self.middle = ConvUnit(2 * width, 2 * width)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.fuse = ConvUnit(2 * width, width)
        self.out = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x):
        skip = self.stem(x)
        deep = self.middle(self.down(skip))
        x = self.fuse(torch.cat([self.up(deep), skip], dim=1))
        return self.out(x)


def psnr(prediction, target, data_range=2.0):
    """Peak signal-to-noise ratio of each image, in dB."""
    mse = (prediction - target).pow(2).mean(dim=(1, 2, 3))
    return 10 * torch.log10(data_range**2 / (mse + 1e-8))


class PSNRLoss(nn.Module):
    def __init__(self, weight=0.1):
        super().__init__()
        self.weight = weight

    def forward(self, prediction, target):
        return -self.weight * psnr(prediction, target).mean()


@torch.no_grad()
def update_ema(ema_model, model, decay):
    for averaged, current in zip(ema_model.parameters(), model.parameters()):
        averaged.mul_(decay).add_(current, alpha=1 - decay)
    for averaged, current in zip(ema_model.buffers(), model.buffers()):
        averaged.copy_(current)


def evaluate(accelerator, model, loader):
    model.eval()
    before, after = [], []
    for batch in loader:
        with torch.no_grad():
            restored = model(batch["noisy"]).clamp(-1, 1)
        before.append(accelerator.gather_for_metrics(psnr(batch["noisy"], batch["clean"])))
        after.append(accelerator.gather_for_metrics(psnr(restored, batch["clean"])))
    return torch.cat(before).mean().item(), torch.cat(after).mean().item()


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_train_epochs", type=int, default=8)
    parser.add_argument("--train_batch_size", type=int, default=32)
    parser.add_argument("--eval_batch_size", type=int, default=100)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--max_grad_norm", type=float, default=1.0)
    parser.add_argument("--ema_decay", type=float, default=0.95)
    parser.add_argument("--sigma", type=float, default=0.6)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = parse_args()
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)
    train_loader = DataLoader(NoisyDigits(True, args.sigma), batch_size=args.train_batch_size, shuffle=True)
    eval_loader = DataLoader(NoisyDigits(False, args.sigma), batch_size=args.eval_batch_size)

    model = Denoiser()
    criterion = PSNRLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=1e-4)
    max_train_steps = args.num_train_epochs * len(train_loader)
    lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max_train_steps)
    model, optimizer, train_loader, eval_loader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_loader, eval_loader, lr_scheduler
    )
    ema_model = copy.deepcopy(accelerator.unwrap_model(model)).requires_grad_(False)

    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for batch in train_loader:
            prediction = model(batch["noisy"])
            loss = criterion(prediction, batch["clean"])
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            update_ema(ema_model, accelerator.unwrap_model(model), args.ema_decay)
            total_loss += loss.detach().item()
        before, after = evaluate(accelerator, ema_model, eval_loader)
        accelerator.print(
            f"epoch {epoch}: loss {total_loss / len(train_loader):.4f}, PSNR {before:.2f} dB -> {after:.2f} dB"
        )


if __name__ == "__main__":
    main()
