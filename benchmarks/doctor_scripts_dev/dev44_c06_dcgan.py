import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader

import toydata

parser = argparse.ArgumentParser()
parser.add_argument("--batchSize", type=int, default=50)
parser.add_argument("--nz", type=int, default=24, help="size of the latent z vector")
parser.add_argument("--ngf", type=int, default=32)
parser.add_argument("--ndf", type=int, default=24)
parser.add_argument("--niter", type=int, default=14, help="number of epochs to train for")
parser.add_argument("--lr", type=float, default=0.001)
parser.add_argument("--beta1", type=float, default=0.5)
parser.add_argument("--manualSeed", type=int, default=7)


class Generator(nn.Module):
    def __init__(self, nz, ngf):
        super().__init__()
        self.main = nn.Sequential(
            # Z into 4 x 4
            nn.ConvTranspose2d(nz, ngf * 2, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            # 8 x 8
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            # 16 x 16
            nn.ConvTranspose2d(ngf, 1, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, input):
        return self.main(input)


class Discriminator(nn.Module):
    def __init__(self, ndf):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, ndf, 4, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ndf * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 2, 1, 4, 1, 0),
        )

    def forward(self, input):
        return self.main(input).flatten()


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        nn.init.normal_(m.weight, 0.0, 0.05)
    elif classname.find("BatchNorm") != -1:
        nn.init.normal_(m.weight, 1.0, 0.02)
        nn.init.zeros_(m.bias)


def loss_D(real, fake):
    return (F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
            + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake)))


def loss_G(fake):
    return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def main():
    opt = parser.parse_args()
    random.seed(opt.manualSeed)
    torch.manual_seed(opt.manualSeed)

    dataset = toydata.Digits(train=True, transform=lambda image: image.float() / 127.5 - 1)
    dataloader = DataLoader(dataset, batch_size=opt.batchSize, shuffle=True, drop_last=True)
    heldout = toydata.Digits(train=False).data.float() / 127.5 - 1

    netG, netD = Generator(opt.nz, opt.ngf), Discriminator(opt.ndf)
    netG.apply(weights_init)
    netD.apply(weights_init)
    optimizerD = optim.Adam(netD.parameters(), lr=opt.lr / 2, betas=(opt.beta1, 0.999))
    optimizerG = optim.Adam(netG.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
    fixed_noise = torch.randn(300, opt.nz, 1, 1)

    for epoch in range(opt.niter):
        netG.train()
        netD.train()
        for real, _ in dataloader:
            # (1) update D: tell images of the data set from generated ones
            netD.zero_grad()
            fake = netG(torch.randn(len(real), opt.nz, 1, 1))
            errD = loss_D(netD(real), netD(fake.detach()))
            errD.backward()
            optimizerD.step()

            # (2) update G: what D now takes for real
            netG.zero_grad()
            errG = loss_G(netD(fake))
            errG.backward()
            optimizerG.step()

        netG.eval()
        with torch.no_grad():
            samples = netG(fixed_noise)
        mean_gap = (samples.mean(0) - heldout.mean(0)).abs().mean()
        std_gap = (samples.std(0) - heldout.std(0)).abs().mean()
        print(f"[{epoch + 1}/{opt.niter}] Loss_D: {errD.item():.3f} Loss_G: {errG.item():.3f} "
              f"gap of means {mean_gap:.3f} gap of deviations {std_gap:.3f}")


if __name__ == "__main__":
    main()
