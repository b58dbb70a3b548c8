"""A residual denoiser on unshuffled pixels (after FFDNet), trained with Accelerate and accumulated gradients."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

EPOCHS = 14
BATCH = 32
ACCUMULATE = 2
SIGMA = 0.25


class Denoiser(nn.Module):
    """Predicts the noise in an image."""

    def __init__(self, width=32, depth=3):
        super().__init__()
        layers = [nn.PixelUnshuffle(2), nn.Conv2d(4, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(width, 4, 3, padding=1), nn.PixelShuffle(2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, noisy):
        return self.layers(noisy)


def clean_digits(count, seed):
    images, _ = draw_digits(count, seed=seed, noise=0.0)
    return images.float() / 255


def psnr(images, truth):
    errors = (images - truth).pow(2).mean((1, 2, 3))
    return -10 * torch.log10(errors)


def training_function():
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE)
    torch.manual_seed(11)

    train_set = TensorDataset(clean_digits(3072, seed=0))
    valid_clean = clean_digits(400, seed=1)
    noise = torch.randn(valid_clean.shape, generator=torch.Generator().manual_seed(5))
    valid_set = TensorDataset(valid_clean + SIGMA * noise, valid_clean)  # the same noise in every epoch
    train_loader = DataLoader(train_set, batch_size=BATCH, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=200)

    model = Denoiser()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    updates = EPOCHS * len(train_loader) // ACCUMULATE
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates, eta_min=3e-5)
    model, optimizer, train_loader, valid_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, valid_loader, scheduler
    )
    accelerator.print(f"{updates} updates; untouched images have {psnr(*valid_set.tensors).mean():.2f} dB")

    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for (clean,) in train_loader:
            with accelerator.accumulate(model):
                noise = SIGMA * torch.randn_like(clean)
                noisy = clean + noise
                loss = F.mse_loss(model(noisy), noise)
                accelerator.backward(loss)  # divides by the number of accumulated batches
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += loss.detach().item()

        model.eval()
        values = []
        for noisy, clean in valid_loader:
            with torch.no_grad():
                restored = (noisy - model(noisy)).clamp(0, 1)
            values.append(accelerator.gather_for_metrics(psnr(restored, clean)))
        accelerator.print(
            f"epoch {epoch + 1:2d}  loss {total / len(train_loader):.5f}  PSNR {torch.cat(values).mean():.2f} dB"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    training_function()
