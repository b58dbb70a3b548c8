"""Denoising with a conditional GAN: L1 and an adversarial term, as in pix2pix."""

import weakref

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

OPT = dict(lr=1e-3, lr_d=2e-4, beta1=0.5, lambda_l1=100.0, ngf=24, ndf=16, batch_size=32)


class Generator(nn.Module):
    def __init__(self, ngf):
        super().__init__()
        self.inc = nn.Sequential(nn.Conv2d(1, ngf, 3, padding=1), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(ngf, ngf * 2, 4, stride=2, padding=1), nn.ReLU())
        self.mid = nn.Sequential(nn.Conv2d(ngf * 2, ngf * 2, 3, padding=1), nn.ReLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(ngf * 2, ngf, 4, stride=2, padding=1), nn.ReLU())
        self.out = nn.Conv2d(ngf * 2, 1, 3, padding=1)

    def forward(self, x):
        skip = self.inc(x)
        h = self.up(self.mid(self.down(skip)))
        return torch.tanh(self.out(torch.cat([skip, h], dim=1)))


class PatchDiscriminator(nn.Sequential):
    def __init__(self, ndf):
        super().__init__(
            nn.Conv2d(2, ndf, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf, ndf * 2, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf * 2, 1, 3, padding=1),
        )


class Pix2Pix(nn.Module):
    def __init__(self, opt):
        super().__init__()
        self.netG = Generator(opt["ngf"])
        self.netD = PatchDiscriminator(opt["ndf"])

    def forward(self, x):
        return self.netG(x)


def gan_loss(prediction, real):
    target = torch.ones_like(prediction) if real else torch.zeros_like(prediction)
    return F.mse_loss(prediction, target)


def make_step(opt):
    optimizers_d = weakref.WeakKeyDictionary()  # one for each network that is trained

    def step(model, batch, optimizer, loss):
        x, y = batch
        if model not in optimizers_d:
            optimizers_d[model] = torch.optim.Adam(model.netD.parameters(), lr=opt["lr_d"], betas=(opt["beta1"], 0.999))
        optimizer_d = optimizers_d[model]
        fake = model(x)
        # discriminator
        optimizer_d.zero_grad()
        pred_fake, pred_real = model.netD(torch.cat([x, fake.detach()], 1)), model.netD(torch.cat([x, y], 1))
        loss_d = 0.5 * (gan_loss(pred_fake, False) + gan_loss(pred_real, True))
        loss_d.backward()
        optimizer_d.step()
        # generator
        model.netD.requires_grad_(False)
        optimizer.zero_grad()
        loss_g = gan_loss(model.netD(torch.cat([x, fake], 1)), True) + opt["lambda_l1"] * loss(fake, y)
        loss_g.backward()
        optimizer.step()
        model.netD.requires_grad_(True)
        return loss_g.detach()

    return step


def pairs(count, seed):
    clean = draw_digits(count, seed=seed, noise=0.0)[0].float() / 127.5 - 1
    generator = torch.Generator().manual_seed(seed + 100)
    noisy = clean + 0.6 * torch.randn(clean.shape, generator=generator)
    return TensorDataset(noisy, clean)


def build_optimizer(model, opt):
    betas = (opt["beta1"], 0.999)
    return torch.optim.Adam(model.netG.parameters(), lr=opt["lr"], betas=betas)


def setup():
    torch.manual_seed(2)
    model = Pix2Pix(OPT)
    return {
        "model": model,
        "train": DataLoader(pairs(800, 30), batch_size=OPT["batch_size"], shuffle=True),
        "val": DataLoader(pairs(200, 31), batch_size=50),
        "loss": nn.L1Loss(),
        "optimizer": build_optimizer(model, OPT),
        "step": make_step(OPT),
        "task": "regress",
    }
