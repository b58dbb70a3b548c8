"""Wasserstein GAN with gradient penalty on eight Gaussians; reports how many are found and how many points lie near one."""
import argparse
import math
import os
import tempfile

import torch
import torch.nn as nn
from torch import autograd, optim

parser = argparse.ArgumentParser()
parser.add_argument("--iterations", type=int, default=1800)
parser.add_argument("--critic_iters", type=int, default=4)
parser.add_argument("--batch_size", type=int, default=128)
parser.add_argument("--dim", type=int, default=96)
parser.add_argument("--z_dim", type=int, default=8)
parser.add_argument("--lambda_gp", type=float, default=0.1, help="small for toy data of two dimensions")
parser.add_argument("--lr", type=float, default=7e-4)
parser.add_argument("--log_every", type=int, default=200)


class Generator(nn.Module):
    def __init__(self, z_dim, dim):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(z_dim, dim), nn.ReLU(True), nn.Linear(dim, dim), nn.ReLU(True), nn.Linear(dim, dim), nn.ReLU(True), nn.Linear(dim, 2)
        )

    def forward(self, noise):
        return self.main(noise)


class Critic(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(2, dim),
            nn.LeakyReLU(0.2, True),
            nn.Linear(dim, dim),
            nn.LeakyReLU(0.2, True),
            nn.Linear(dim, dim),
            nn.LeakyReLU(0.2, True),
            nn.Linear(dim, 1),
        )

    def forward(self, x):
        return self.main(x).view(-1)


def centers():
    angles = torch.arange(8) * (2 * math.pi / 8)
    return torch.stack([angles.cos(), angles.sin()], 1) * math.sqrt(2)


def inf_train_gen(batch_size):
    mid = centers()
    while True:
        pick = torch.randint(0, 8, (batch_size,))
        yield mid[pick] + 0.1 * torch.randn(batch_size, 2)


def gradient_penalty(critic, real, fake):
    alpha = torch.rand(real.size(0), 1)
    between = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
    gradients = autograd.grad(critic(between).sum(), between, create_graph=True)[0]
    return ((gradients.norm(2, dim=1) - 1) ** 2).mean()


@torch.no_grad()
def report(generator, z_dim, count=2000):
    generator.eval()
    points = generator(torch.randn(count, z_dim))
    distances, nearest = torch.cdist(points, centers()).min(1)
    near = distances < 0.3
    shares = torch.bincount(nearest[near], minlength=8) / count
    generator.train()
    return near.float().mean().item(), int((shares > 0.03).sum())


def main():
    opt = parser.parse_args()
    torch.manual_seed(1)
    generator, critic = Generator(opt.z_dim, opt.dim), Critic(opt.dim)
    optimizer_d = optim.Adam(critic.parameters(), lr=opt.lr, betas=(0.5, 0.9))
    optimizer_g = optim.Adam(generator.parameters(), lr=opt.lr, betas=(0.5, 0.9))
    decay = lambda i: max(0.1, 1 - i / opt.iterations)
    schedulers = [optim.lr_scheduler.LambdaLR(o, decay) for o in (optimizer_d, optimizer_g)]
    average = torch.optim.swa_utils.AveragedModel(generator, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98))
    data = inf_train_gen(opt.batch_size)

    for iteration in range(1, opt.iterations + 1):
        for p in critic.parameters():
            p.requires_grad = True
        for _ in range(opt.critic_iters):
            real = next(data)
            with torch.no_grad():
                fake = generator(torch.randn(opt.batch_size, opt.z_dim))
            wasserstein = critic(real).mean() - critic(fake).mean()
            loss_d = -wasserstein + opt.lambda_gp * gradient_penalty(critic, real, fake)
            optimizer_d.zero_grad()
            loss_d.backward()
            optimizer_d.step()

        for p in critic.parameters():
            p.requires_grad = False
        loss_g = -critic(generator(torch.randn(opt.batch_size, opt.z_dim))).mean()
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
        average.update_parameters(generator)
        for scheduler in schedulers:
            scheduler.step()

        if iteration % opt.log_every == 0:
            quality, modes = report(average.module, opt.z_dim)
            print(
                f"[{iteration}/{opt.iterations}] W {wasserstein.item():.4f} loss_d {loss_d.item():.4f} "
                f"loss_g {loss_g.item():.4f} near a center {quality:.3f} modes {modes}/8"
            )
    torch.save(average.module.state_dict(), os.path.join(tempfile.mkdtemp(), "generator.pth"))


if __name__ == "__main__":
    main()
