"""Denoising of digits: a residual network, noise that grows as training goes on, closures instead of classes."""
import math
import os
import sys

import torch
import torch.nn as nn

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from toydata import draw_digits

torch.set_num_threads(1)


def clean_images(count, seed):
    images, _ = draw_digits(count, seed=seed, noise=0.0)
    return images.float() / 255


def make_model(width=24):
    def layer(inputs, dilation):
        return [
            nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation),
            nn.GroupNorm(4, width),
            nn.ReLU(),
        ]

    class Denoiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.noise = nn.Sequential(
                *layer(1, 1), *layer(width, 2), *layer(width, 2), nn.Conv2d(width, 1, 3, padding=1)
            )

        def forward(self, noisy):
            return noisy - self.noise(noisy)

    return Denoiser()


def make_curriculum(first, last, epochs):
    """The largest noise of an epoch: rises over the first half, stays from then on."""

    def sigma(epoch):
        return first + (last - first) * min(1.0, epoch / (epochs // 2))

    return sigma


def make_batches(images, batch_size):
    def batches():
        order = torch.randperm(len(images))
        for start in range(0, len(order), batch_size):
            yield images[order[start : start + batch_size]]

    return batches


def make_step(model, optimizer, parameters):
    loss_function = nn.MSELoss()

    def step(clean, sigma):
        levels = 0.05 + (sigma - 0.05) * torch.rand(len(clean), 1, 1, 1).sqrt()
        noisy = clean + levels * torch.randn_like(clean)
        loss = loss_function(model(noisy), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def make_validation(model, clean, sigma):
    generator = torch.Generator().manual_seed(99)
    noisy = clean + sigma * torch.randn(clean.shape, generator=generator)

    def psnr(images):
        return -10 * math.log10(((images - clean) ** 2).mean().item())

    @torch.no_grad()
    def validate():
        model.eval()
        restored = torch.cat([model(part) for part in noisy.split(100)])
        model.train()
        return psnr(restored.clamp(0, 1)), psnr(noisy)

    return validate


def train(epochs=20, lr=2e-3):
    torch.manual_seed(1)
    model = make_model()
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=lr / 50)
    curriculum = make_curriculum(0.15, 0.45, epochs)
    batches = make_batches(clean_images(1600, seed=0), 32)
    step = make_step(model, optimizer, parameters)
    validate = make_validation(model, clean_images(300, seed=1), 0.4)
    for epoch in range(epochs):
        losses = [step(clean, curriculum(epoch)) for clean in batches()]
        scheduler.step()
        restored, given = validate()
        print(
            f"epoch {epoch:2d} sigma up to {curriculum(epoch):.2f} mse {sum(losses) / len(losses):.4f} "
            f"val PSNR {restored:.2f} dB (noisy images {given:.2f} dB)"
        )
    return model


train()
