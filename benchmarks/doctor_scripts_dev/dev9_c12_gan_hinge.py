"""GAN on a ring of gaussians: spectral norm D, hinge loss, two optimizers (TTUR), EMA generator, infinite iterator."""
import copy
import math

import torch
import torch.nn as nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(5)
MODES, Z = 8, 4


def ring(n):
    k = torch.randint(0, MODES, (n,))
    a = k * 2 * math.pi / MODES
    return torch.stack([a.cos(), a.sin()], 1) * 2 + 0.05 * torch.randn(n, 2)


def infinite(loader):
    while True:
        yield from loader


def quality(x):
    a = torch.arange(MODES) * 2 * math.pi / MODES
    d = torch.cdist(x, torch.stack([a.cos(), a.sin()], 1) * 2)
    near, which = d.min(1)
    ok = near < 0.35
    return ok.float().mean().item(), which[ok].unique().numel()


netG = nn.Sequential(nn.Linear(Z, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 2))
netD = nn.Sequential(
    spectral_norm(nn.Linear(2, 96)), nn.LeakyReLU(0.2),
    spectral_norm(nn.Linear(96, 96)), nn.LeakyReLU(0.2),
    nn.Linear(96, 1))
ema = copy.deepcopy(netG).requires_grad_(False)
optD = torch.optim.Adam(netD.parameters(), lr=2e-3, betas=(0.0, 0.9))
optG = torch.optim.Adam(netG.parameters(), lr=5e-4, betas=(0.0, 0.9))
real_iter = infinite(DataLoader(TensorDataset(ring(4096)), batch_size=128, shuffle=True, drop_last=True))

print("before:", quality(netG(torch.randn(1000, Z)).detach()))
for step in range(1751):
    # (1) critic
    netD.requires_grad_(True)
    for _ in range(2):
        (real,) = next(real_iter)
        with torch.no_grad():
            fake = netG(torch.randn(real.size(0), Z))
        d_loss = torch.relu(1 - netD(real)).mean() + torch.relu(1 + netD(fake)).mean()
        optD.zero_grad(set_to_none=True)
        d_loss.backward()
        optD.step()
    # (2) generator; D is frozen for this half
    netD.requires_grad_(False)
    g_loss = -netD(netG(torch.randn(128, Z))).mean()
    optG.zero_grad(set_to_none=True)
    g_loss.backward()
    optG.step()
    with torch.no_grad():
        for p_ema, p in zip(ema.parameters(), netG.parameters()):
            p_ema.lerp_(p, 0.01)
    if step % 250 == 0:
        hq, modes = quality(ema(torch.randn(1000, Z)))
        print(f"[{step}] D {d_loss.item():.3f} G {g_loss.item():.3f} | high quality {hq:.2f}, modes {modes}/{MODES}")
