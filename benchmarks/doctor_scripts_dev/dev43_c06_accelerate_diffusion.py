"""Unconditional denoising diffusion of small digits, trained with Accelerate."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from toydata import Digits


class ResnetBlock(nn.Module):
    def __init__(self, in_channels, out_channels, temb_channels):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb_channels, out_channels)
        self.norm2 = nn.GroupNorm(8, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, hidden, temb):
        residual = self.shortcut(hidden)
        hidden = self.conv1(F.silu(self.norm1(hidden)))
        hidden = hidden + self.time_emb_proj(F.silu(temb))[:, :, None, None]
        return residual + self.conv2(F.silu(self.norm2(hidden)))


class UNet2DModel(nn.Module):
    """Works on patches of 2 x 2 pixels, as channels."""

    def __init__(self, channels=24):
        super().__init__()
        self.channels, temb = channels, 4 * channels
        self.time_embedding = nn.Sequential(nn.Linear(channels, temb), nn.SiLU(), nn.Linear(temb, temb))
        self.conv_in = nn.Conv2d(4, channels, 3, padding=1)
        self.down = ResnetBlock(channels, channels, temb)
        self.downsample = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.mid = ResnetBlock(2 * channels, 2 * channels, temb)
        self.upsample = nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1)
        self.up = ResnetBlock(2 * channels, channels, temb)
        self.norm_out = nn.GroupNorm(8, channels)
        self.conv_out = nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, sample, timesteps):
        half = self.channels // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=sample.device) / half)
        angles = timesteps[:, None].float() * frequencies[None, :]
        temb = self.time_embedding(torch.cat([angles.sin(), angles.cos()], dim=-1))
        skip = self.down(self.conv_in(F.pixel_unshuffle(sample, 2)), temb)
        hidden = self.mid(self.downsample(skip), temb)
        hidden = self.up(torch.cat([self.upsample(hidden), skip], dim=1), temb)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(hidden))), 2)


class NoiseScheduler:
    def __init__(self, num_train_timesteps=200):
        self.num_train_timesteps = num_train_timesteps
        self.alphas_cumprod = torch.cumprod(1 - torch.linspace(5e-4, 0.1, num_train_timesteps), dim=0)

    def add_noise(self, clean, noise, timesteps):
        alpha = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    @torch.no_grad()
    def sample(self, model, count, steps=25):
        image = torch.randn(count, 1, 16, 16)
        timesteps = torch.linspace(self.num_train_timesteps - 1, 0, steps).long().tolist()
        for now, then in zip(timesteps, timesteps[1:] + [-1]):
            noise = model(image, torch.full((count,), now))
            alpha = self.alphas_cumprod[now]
            clean = ((image - (1 - alpha).sqrt() * noise) / alpha.sqrt()).clamp(-1, 1)
            noise = (image - alpha.sqrt() * clean) / (1 - alpha).sqrt()
            following = self.alphas_cumprod[then] if then >= 0 else torch.tensor(1.0)
            image = following.sqrt() * clean + (1 - following).sqrt() * noise
        return image


@torch.no_grad()
def evaluate(model, loader, scheduler):
    model.eval()
    generator = torch.Generator().manual_seed(0)
    total, count = 0.0, 0
    for clean, _ in loader:
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = torch.randint(0, scheduler.num_train_timesteps, (len(clean),), generator=generator)
        predicted = model(scheduler.add_noise(clean, noise, timesteps), timesteps)
        total += F.mse_loss(predicted, noise).item() * len(clean)
        count += len(clean)
    return total / count


def to_model_range(image):
    return image.float() / 127.5 - 1


def main(num_epochs=10, train_batch_size=32, learning_rate=3e-3, lr_warmup_steps=15):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    set_seed(11)
    train_set, val_set = Digits(train=True, count=960, transform=to_model_range), Digits(False, transform=to_model_range)
    train_dataloader = DataLoader(train_set, batch_size=train_batch_size, shuffle=True)
    val_dataloader = DataLoader(val_set, batch_size=100)
    model, noise_scheduler = UNet2DModel(), NoiseScheduler()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-4)
    max_train_steps = num_epochs * math.ceil(len(train_dataloader) / accelerator.gradient_accumulation_steps)

    def cosine(step):
        if step < lr_warmup_steps:
            return (step + 1) / lr_warmup_steps
        return 0.5 * (1 + math.cos(math.pi * (step - lr_warmup_steps) / (max_train_steps - lr_warmup_steps)))

    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine)
    model, optimizer, train_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, lr_scheduler
    )
    ema_model = AveragedModel(accelerator.unwrap_model(model), multi_avg_fn=get_ema_multi_avg_fn(0.95))
    for epoch in range(num_epochs):
        model.train()
        for clean_images, _ in train_dataloader:
            noise = torch.randn_like(clean_images)
            timesteps = torch.randint(0, noise_scheduler.num_train_timesteps, (len(clean_images),))
            noisy_images = noise_scheduler.add_noise(clean_images, noise, timesteps)
            with accelerator.accumulate(model):
                prediction = model(noisy_images, timesteps)
                loss = F.mse_loss(prediction, noise)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                ema_model.update_parameters(accelerator.unwrap_model(model))
        error = evaluate(ema_model, val_dataloader, noise_scheduler)
        accelerator.print(f"epoch {epoch} last loss {loss.item():.4f} validation (EMA) {error:.4f}")
    pixels = noise_scheduler.sample(ema_model, 32)
    accelerator.print(f"samples: mean {pixels.mean():.3f} std {pixels.std():.3f}")


if __name__ == "__main__":
    main()
