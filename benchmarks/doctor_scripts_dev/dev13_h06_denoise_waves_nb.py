#!/usr/bin/env python
# coding: utf-8

# # Denoising autoencoder for short signals
# Noisy waves in, clean waves out. The clean signals are synthesised here, so the target is known.

# In[1]:
import math

import torch
from torch import nn

torch.manual_seed(2024)


# ## Data

# In[2]:
def make_waves(n, length=64, noise=0.4, seed=0):
    g = torch.Generator().manual_seed(seed)
    t = torch.linspace(0, 1, length)
    freq = 2 + 4 * torch.rand(n, 1, generator=g)
    phase = 2 * math.pi * torch.rand(n, 1, generator=g)
    amplitude = 0.6 + 0.8 * torch.rand(n, 1, generator=g)
    clean = amplitude * torch.sin(2 * math.pi * freq * t + phase)
    noisy = clean + noise * torch.randn(n, length, generator=g)
    return noisy.unsqueeze(1), clean.unsqueeze(1)


noisy_train, clean_train = make_waves(1500, seed=0)
noisy_test, clean_test = make_waves(300, seed=1)
noisy_train.shape, clean_train.shape


# ## Model

# In[3]:
encoder = nn.Sequential(
    nn.Conv1d(1, 16, 7, stride=2, padding=3), nn.LeakyReLU(0.1),
    nn.Conv1d(16, 32, 5, stride=2, padding=2), nn.LeakyReLU(0.1),
    nn.Conv1d(32, 32, 5, stride=2, padding=2), nn.LeakyReLU(0.1),
    nn.Flatten(), nn.Linear(32 * 8, 12),
)
decoder = nn.Sequential(
    nn.Linear(12, 32 * 8), nn.LeakyReLU(0.1), nn.Unflatten(1, (32, 8)),
    nn.ConvTranspose1d(32, 32, 4, stride=2, padding=1), nn.LeakyReLU(0.1),
    nn.ConvTranspose1d(32, 16, 4, stride=2, padding=1), nn.LeakyReLU(0.1),
    nn.ConvTranspose1d(16, 1, 4, stride=2, padding=1),
)
autoencoder = nn.Sequential(encoder, decoder)
sum(p.numel() for p in autoencoder.parameters())


# In[4]:
def snr_db(estimate, truth):
    error = (estimate - truth).pow(2).mean(dim=(1, 2))
    return (10 * torch.log10(truth.pow(2).mean(dim=(1, 2)) / error)).mean().item()


@torch.no_grad()
def test_snr():
    autoencoder.eval()
    out = snr_db(autoencoder(noisy_test), clean_test)
    autoencoder.train()
    return out


print("SNR of the noisy test signals: %.2f dB" % snr_db(noisy_test, clean_test))


# ## Training: cosine with warm restarts (cycles of 6, 12 and 24 epochs)

# In[5]:
epochs, batch_size = 42, 75
n_batches = len(noisy_train) // batch_size
opt = torch.optim.Adam(autoencoder.parameters(), lr=4e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=6, T_mult=2, eta_min=1e-5)
history = []
for epoch in range(epochs):
    order = torch.randperm(len(noisy_train))
    epoch_loss = 0.0
    for b in range(n_batches):
        idx = order[b * batch_size : (b + 1) * batch_size]
        opt.zero_grad()
        reconstruction = autoencoder(noisy_train[idx])
        loss = nn.functional.mse_loss(reconstruction, clean_train[idx])
        loss.backward()
        opt.step()
        schedule.step(epoch + (b + 1) / n_batches)
        epoch_loss += loss.item() / n_batches
    history.append(epoch_loss)
    if epoch + 1 in (1, 6, 18, 30, 42):
        print("epoch %2d  mse %.4f  test SNR %.2f dB" % (epoch + 1, epoch_loss, test_snr()))


# In[6]:
gain = test_snr() - snr_db(noisy_test, clean_test)
print("gain over the input: %.1f dB, training mse %.4f -> %.4f" % (gain, history[0], history[-1]))
