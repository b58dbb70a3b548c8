"""DCGAN of digits. A small classifier, trained on real digits, judges what the generator draws."""

import argparse
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

parser = argparse.ArgumentParser()
parser.add_argument("--batchSize", type=int, default=50)
parser.add_argument("--nz", type=int, default=24, help="size of the latent z vector")
parser.add_argument("--ngf", type=int, default=24)
parser.add_argument("--ndf", type=int, default=24)
parser.add_argument("--niter", type=int, default=22, help="number of epochs to train for")
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--beta1", type=float, default=0.5)
parser.add_argument("--manualSeed", type=int, default=4)


def transform(image):
    return (image.float() / 255 - 0.5) / 0.5


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
            nn.ConvTranspose2d(nz, ngf * 4, 4, 1, 0, bias=False), nn.BatchNorm2d(ngf * 4), nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 2), nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, 1, 4, 2, 1, bias=False), nn.Tanh(),
        )

    def forward(self, z):
        return self.main(z)


class Discriminator(nn.Module):
    def __init__(self, ndf):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 2), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 2, 1, 4, 1, 0, bias=False),
        )

    def forward(self, x):
        return self.main(x).view(-1)


def train_judge(dataset):
    """A plain classifier of digits; its confidence and variety make the score."""
    judge = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer = torch.optim.Adam(judge.parameters(), 2e-3)
    for _ in range(5):
        for x, y in DataLoader(dataset, 50, shuffle=True):
            loss = F.cross_entropy(judge(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return judge.eval()


@torch.no_grad()
def score(judge, images, reference):
    """Inception-like score (1 to 10) and the Frechet distance of the judge's features (diagonal)."""
    p = judge(images).softmax(1)
    marginal = p.mean(0, keepdim=True)
    inception = (p * ((p + 1e-9).log() - (marginal + 1e-9).log())).sum(1).mean().exp().item()
    body = judge[:-1]
    a, b = body(images), body(reference)
    frechet = (a.mean(0) - b.mean(0)).pow(2).sum() + (a.std(0) - b.std(0)).pow(2).sum()
    return inception, frechet.item()


def main():
    opt = parser.parse_args()
    torch.manual_seed(opt.manualSeed)
    dataset = Digits(train=True, count=1500, shift=1, noise=0.08, transform=transform)
    held_out = Digits(train=False, count=300, shift=1, noise=0.08, transform=transform)
    reference = torch.stack([held_out[i][0] for i in range(len(held_out))])
    judge = train_judge(dataset)
    dataloader = DataLoader(dataset, batch_size=opt.batchSize, shuffle=True, drop_last=True)

    netG, netD = Generator(opt.nz, opt.ngf), Discriminator(opt.ndf)
    netG.apply(weights_init)
    netD.apply(weights_init)
    criterion = nn.BCEWithLogitsLoss()
    fixed_noise = torch.randn(300, opt.nz, 1, 1)
    real_label, fake_label = 1.0, 0.0
    optimizerD = torch.optim.Adam(netD.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
    optimizerG = torch.optim.Adam(netG.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))

    for epoch in range(opt.niter):
        netG.train()
        for i, (real, _) in enumerate(dataloader):
            # (1) update D: maximize log(D(x)) + log(1 - D(G(z)))
            netD.zero_grad()
            label = torch.full((real.size(0),), real_label)
            output = netD(real)
            errD_real = criterion(output, label)
            errD_real.backward()
            D_x = output.sigmoid().mean().item()
            noise = torch.randn(real.size(0), opt.nz, 1, 1)
            fake = netG(noise)
            label.fill_(fake_label)
            output = netD(fake.detach())
            errD_fake = criterion(output, label)
            errD_fake.backward()
            errD = errD_real + errD_fake
            optimizerD.step()
            # (2) update G: maximize log(D(G(z)))
            netG.zero_grad()
            label.fill_(real_label)
            output = netD(fake)
            errG = criterion(output, label)
            errG.backward()
            D_G_z = output.sigmoid().mean().item()
            optimizerG.step()
        netG.eval()
        with torch.no_grad():
            drawn = netG(fixed_noise)
        inception, frechet = score(judge, drawn, reference)
        print(
            f"[{epoch}/{opt.niter}] Loss_D: {errD.item():.3f} Loss_G: {errG.item():.3f} D(x): {D_x:.3f} D(G(z)): {D_G_z:.3f}"
            f"  IS {inception:.2f}  FD {frechet:.2f}"
        )

    outf = tempfile.mkdtemp()
    torch.save(netG.state_dict(), os.path.join(outf, "netG.pth"))
    torch.save(netD.state_dict(), os.path.join(outf, "netD.pth"))
    real_is, real_fd = score(judge, reference, reference)
    print(f"final: IS {inception:.2f} (real {real_is:.2f})  FD {frechet:.2f}")


if __name__ == "__main__":
    main()
