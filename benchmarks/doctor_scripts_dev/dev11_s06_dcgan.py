"""DCGAN on small digits. The samples are judged by a Frechet distance of their principal components and by nearest digits."""

import argparse
import os
import random
import tempfile

import torch
import torch.nn as nn
import torch.optim as optim
import torch.utils.data

from toydata import Digits

parser = argparse.ArgumentParser()
parser.add_argument("--batchSize", type=int, default=32, help="input batch size")
parser.add_argument("--nz", type=int, default=32, help="size of the latent z vector")
parser.add_argument("--ngf", type=int, default=16)
parser.add_argument("--ndf", type=int, default=16)
parser.add_argument("--niter", type=int, default=12, help="number of epochs to train for")
parser.add_argument("--lrD", type=float, default=0.0005)
parser.add_argument("--lrG", type=float, default=0.001)
parser.add_argument("--beta1", type=float, default=0.5, help="beta1 for adam")
parser.add_argument("--outf", default=None, help="folder for samples and checkpoints")
parser.add_argument("--manualSeed", type=int, default=3)


def transform(image):
    return image.float() / 127.5 - 1


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        nn.init.normal_(m.weight, 0.0, 0.02)
    elif classname.find("BatchNorm") != -1:
        nn.init.normal_(m.weight, 1.0, 0.02)
        nn.init.zeros_(m.bias)


class Generator(nn.Module):
    def __init__(self, nz, ngf):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 4, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 4),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.Conv2d(ngf, 1, 3, 1, 1),
            nn.Tanh(),
        )

    def forward(self, noise):
        return self.main(noise)


class Discriminator(nn.Module):
    def __init__(self, ndf):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ndf * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 2, 1, 4, 1, 0, bias=False),
        )

    def forward(self, image):
        return self.main(image).view(-1)


class Judge:
    """Principal components of real images; Frechet distance there."""

    def __init__(self, images, components=12):
        flat = images.flatten(1)
        self.mean = flat.mean(0)
        self.axes = torch.linalg.svd(flat - self.mean, full_matrices=False)[2][:components].T
        self.real = self.project(images)

    def project(self, images):
        return (images.flatten(1) - self.mean) @ self.axes

    def frechet(self, images):
        fake = self.project(images)
        real_cov, fake_cov = torch.cov(self.real.T).double(), torch.cov(fake.T).double()
        eigenvalues = torch.linalg.eigvals(real_cov @ fake_cov).real.clamp(min=0)
        shift = (self.real.mean(0) - fake.mean(0)).pow(2).sum()
        return (shift + real_cov.trace() + fake_cov.trace() - 2 * eigenvalues.sqrt().sum()).item()

    def share_like_real(self, images, limit):
        """How many samples lie as near to a real image as real ones do to one another."""
        return (torch.cdist(self.project(images), self.real).min(1).values < limit).float().mean().item()


def main():
    opt = parser.parse_args()
    random.seed(opt.manualSeed)
    torch.manual_seed(opt.manualSeed)
    dataset = Digits(train=True, count=2400, transform=transform, shift=0, noise=0.05)
    dataloader = torch.utils.data.DataLoader(dataset, batch_size=opt.batchSize, shuffle=True, drop_last=True)
    held_out = transform(Digits(train=False, count=800, shift=0, noise=0.05).data)
    judge = Judge(held_out)
    nearest = torch.cdist(judge.real, judge.real).kthvalue(2, dim=1).values
    limit = 2 * nearest.quantile(0.95).item()

    netG = Generator(opt.nz, opt.ngf)
    netG.apply(weights_init)
    netD = Discriminator(opt.ndf)
    netD.apply(weights_init)

    criterion = nn.BCEWithLogitsLoss()
    fixed_noise = torch.randn(800, opt.nz, 1, 1)
    real_label, fake_label = 1.0, 0.0
    optimizerD = optim.Adam(netD.parameters(), lr=opt.lrD, betas=(opt.beta1, 0.999))
    optimizerG = optim.Adam(netG.parameters(), lr=opt.lrG, betas=(opt.beta1, 0.999))
    outf = opt.outf or tempfile.mkdtemp()

    for epoch in range(opt.niter):
        for i, (real, _) in enumerate(dataloader):
            # (1) Update D network: maximize log(D(x)) + log(1 - D(G(z)))
            netD.zero_grad()
            batch_size = real.size(0)
            label = torch.full((batch_size,), real_label)
            output = netD(real)
            errD_real = criterion(output, label)
            errD_real.backward()
            D_x = output.sigmoid().mean().item()

            noise = torch.randn(batch_size, opt.nz, 1, 1)
            fake = netG(noise)
            label.fill_(fake_label)
            output = netD(fake.detach())
            errD_fake = criterion(output, label)
            errD_fake.backward()
            D_G_z1 = output.sigmoid().mean().item()
            optimizerD.step()

            # (2) Update G network: maximize log(D(G(z)))
            netG.zero_grad()
            label.fill_(real_label)
            output = netD(fake)
            errG = criterion(output, label)
            errG.backward()
            optimizerG.step()
        with torch.no_grad():
            samples = netG(fixed_noise)
        print("[%d/%d] Loss_D: %.3f Loss_G: %.3f D(x): %.3f D(G(z)): %.3f frechet %.2f like real %.3f" % (
            epoch, opt.niter, (errD_real + errD_fake).item(), errG.item(), D_x, D_G_z1,
            judge.frechet(samples), judge.share_like_real(samples, limit)))
        torch.save(netG.state_dict(), os.path.join(outf, "netG_epoch_%d.pth" % epoch))


if __name__ == "__main__":
    main()
