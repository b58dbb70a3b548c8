"""pix2pix on made pictures: a map of labels in, a shaded picture out. U-Net generator, PatchGAN discriminator, L1."""

import argparse
import itertools

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import COLORS, NAMES, Shapes

COLOR_OF = [torch.tensor(COLORS[name.split()[0]]) for name in NAMES]


def paired_data(train, count, size=32):
    """A = one-hot map of 7 labels; B = the scene: shaded shapes on a striped ground, scaled to [-1, 1]."""
    base = Shapes(train=train, count=count, size=size)
    down = torch.linspace(0, 1, size)[:, None].expand(size, size)
    ground = (0.45 + 0.15 * torch.sin(torch.arange(size) * 6.28 / 8))[None, :].expand(size, size)
    maps, pictures = [], []
    for mask, target in zip(base.masks, base.targets):
        inside = mask > 0
        onehot = torch.zeros(7, size, size)
        onehot[0] = (~inside).float()
        onehot[1 + target] = inside.float()
        picture = ground.expand(3, size, size).clone()
        picture[:, inside] = COLOR_OF[target][:, None] * (1 - 0.5 * down[inside])
        maps.append(onehot)
        pictures.append(picture * 2 - 1)
    return TensorDataset(torch.stack(maps), torch.stack(pictures))


class UnetGenerator(nn.Module):
    def __init__(self, cin=7, cout=3, ngf=16):
        super().__init__()
        self.d1 = nn.Conv2d(cin, ngf, 4, 2, 1)
        self.d2 = self._down(ngf, 2 * ngf)
        self.d3 = self._down(2 * ngf, 4 * ngf)
        self.u3 = self._up(4 * ngf, 2 * ngf, drop=True)
        self.u2 = self._up(4 * ngf, ngf)
        self.u1 = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * ngf, cout, 4, 2, 1), nn.Tanh())

    def _down(self, cin, cout):
        return nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(cin, cout, 4, 2, 1, bias=False), nn.BatchNorm2d(cout))

    def _up(self, cin, cout, drop=False):
        layers = [nn.ReLU(), nn.ConvTranspose2d(cin, cout, 4, 2, 1, bias=False), nn.BatchNorm2d(cout)]
        return nn.Sequential(*layers, nn.Dropout(0.3)) if drop else nn.Sequential(*layers)

    def forward(self, a):
        s1 = self.d1(a)
        s2 = self.d2(s1)
        u3 = self.u3(self.d3(s2))
        u2 = self.u2(torch.cat([u3, s2], 1))
        return self.u1(torch.cat([u2, s1], 1))


class PatchDiscriminator(nn.Module):
    def __init__(self, cin=10, ndf=16):
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(cin, ndf, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf, 2 * ndf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * ndf),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * ndf, 1, 4, 1, 1),
        )

    def forward(self, a, b):
        return self.model(torch.cat([a, b], 1))


def init_weights(m):
    name = m.__class__.__name__
    if "Conv" in name:
        nn.init.normal_(m.weight, 0.0, 0.02)
        if m.bias is not None:
            nn.init.zeros_(m.bias)
    elif "BatchNorm" in name:
        nn.init.normal_(m.weight, 1.0, 0.02)
        nn.init.zeros_(m.bias)


def set_requires_grad(net, flag):
    for p in net.parameters():
        p.requires_grad = flag


@torch.no_grad()
def psnr(generator, loader):
    generator.eval()
    squared = pixels = 0.0
    for a, b in loader:
        squared += ((generator(a) - b) ** 2).sum().item()
        pixels += b.numel()
    generator.train()
    return 10 * torch.log10(torch.tensor(4.0 * pixels / squared)).item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_epochs", type=int, default=10)
    parser.add_argument("--n_epochs_decay", type=int, default=6)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--beta1", type=float, default=0.5)
    parser.add_argument("--lambda_L1", type=float, default=100.0)
    opt = parser.parse_args()
    torch.manual_seed(3)

    train_loader = DataLoader(paired_data(True, 600), opt.batch_size, shuffle=True)
    val_loader = DataLoader(paired_data(False, 120), 40)
    netG, netD = UnetGenerator().apply(init_weights), PatchDiscriminator().apply(init_weights)
    gan, l1 = nn.MSELoss(), nn.L1Loss()  # LSGAN
    optG = torch.optim.Adam(netG.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
    optD = torch.optim.Adam(netD.parameters(), lr=opt.lr / 2, betas=(opt.beta1, 0.999))
    rule = lambda epoch: 1.0 - max(0, epoch + 1 - opt.n_epochs) / float(opt.n_epochs_decay + 1)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, rule) for o in (optG, optD)]

    for epoch in itertools.takewhile(lambda e: e < opt.n_epochs + opt.n_epochs_decay, itertools.count()):
        sums = {"D": 0.0, "G_GAN": 0.0, "G_L1": 0.0}
        for real_A, real_B in train_loader:
            fake_B = netG(real_A)
            # discriminator
            set_requires_grad(netD, True)
            optD.zero_grad()
            pred_fake = netD(real_A, fake_B.detach())
            pred_real = netD(real_A, real_B)
            loss_D = 0.5 * (gan(pred_fake, torch.zeros_like(pred_fake)) + gan(pred_real, torch.ones_like(pred_real)))
            loss_D.backward()
            optD.step()
            # generator
            set_requires_grad(netD, False)
            optG.zero_grad()
            pred = netD(real_A, fake_B)
            loss_gan = gan(pred, torch.ones_like(pred))
            loss_l1 = l1(fake_B, real_B) * opt.lambda_L1
            (loss_gan + loss_l1).backward()
            optG.step()
            for key, value in zip(sums, (loss_D, loss_gan, loss_l1)):
                sums[key] += value.item() / len(train_loader)
        for s in schedulers:
            s.step()
        print(f"(epoch: {epoch + 1}) " + " ".join(f"{k}: {v:.3f}" for k, v in sums.items()) + f" | val PSNR: {psnr(netG, val_loader):.2f} dB")


if __name__ == "__main__":
    main()
