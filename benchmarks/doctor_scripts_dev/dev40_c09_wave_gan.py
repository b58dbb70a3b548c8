import random

import torch
import torch.nn as nn
import torch.optim as optim
import torch.utils.data

from toydata import waves

# Set random seed for reproducibility
manualSeed = 999
random.seed(manualSeed)
torch.manual_seed(manualSeed)

# Batch size during training
batch_size = 64
# Length of the signals
length = 64
# Size of z latent vector (i.e. size of generator input)
nz = 32
# Size of feature maps in generator and discriminator
ngf = 16
ndf = 32
# Number of training epochs
num_epochs = 25
# Learning rates of discriminator and generator
lr_d, lr_g = 4e-4, 8e-4
# Beta1 hyperparameter for Adam optimizers
beta1 = 0.5


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(nz, ngf * 4 * 8, bias=False),
            nn.BatchNorm1d(ngf * 4 * 8),
            nn.ReLU(),
        )
        self.main = nn.Sequential(
            # state size: (ngf*4) x 8
            nn.ConvTranspose1d(ngf * 4, ngf * 3, 4, 2, 1, bias=False),
            nn.BatchNorm1d(ngf * 3),
            nn.ReLU(),
            # state size: (ngf*3) x 16
            nn.ConvTranspose1d(ngf * 3, ngf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm1d(ngf * 2),
            nn.ReLU(),
            # state size: (ngf*2) x 32
            nn.ConvTranspose1d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm1d(ngf),
            nn.ReLU(),
            # state size: ngf x 64
            nn.Conv1d(ngf, 1, 7, 1, 3),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.main(self.project(z).view(-1, ngf * 4, 8))


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv1d(1, ndf, 5, 2, 2),
            nn.LeakyReLU(0.2),
            nn.Conv1d(ndf, ndf * 2, 5, 2, 2),
            nn.LeakyReLU(0.2),
            nn.Conv1d(ndf * 2, ndf * 2, 5, 2, 2),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(ndf * 2 * 8, 1),
        )

    def forward(self, x):
        return self.main(x).view(-1)


def log_spectrum(signals):
    """Mean power of each frequency, in natural logarithms."""
    power = torch.fft.rfft(signals.squeeze(1)).abs() ** 2 / length
    return (power.mean(0) + 1e-3).log()


def spectral_distance(netG, noise, target):
    netG.eval()
    with torch.no_grad():
        distance = (log_spectrum(netG(noise)) - target).abs().mean().item()
    netG.train()
    return distance


def main():
    # half the amplitude, so that signal and noise fit into the range of tanh
    train_signals = waves(1200, length, seed=0)[0] / 2
    held_out = waves(400, length, seed=1)[0] / 2
    dataloader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(train_signals), batch_size=batch_size, shuffle=True, drop_last=True)

    netG, netD = Generator(), Discriminator()
    criterion = nn.BCEWithLogitsLoss()
    optimizerD = optim.Adam(netD.parameters(), lr=lr_d, betas=(beta1, 0.999))
    optimizerG = optim.Adam(netG.parameters(), lr=lr_g, betas=(beta1, 0.999))

    fixed_noise = torch.randn(400, nz)
    target_spectrum = log_spectrum(held_out)
    print('Floor (training waves): %.3f' % (log_spectrum(train_signals) - target_spectrum).abs().mean().item())
    print('Before training: %.3f' % spectral_distance(netG, fixed_noise, target_spectrum))

    for epoch in range(num_epochs):
        sum_d, sum_g = torch.zeros(()), torch.zeros(())
        for (real,) in dataloader:
            b_size = real.size(0)
            fake = netG(torch.randn(b_size, nz))

            # (1) Update D network: maximize log(D(x)) + log(1 - D(G(z)))
            netD.zero_grad()
            output_real, output_fake = netD(real), netD(fake.detach())
            errD_real = criterion(output_real, torch.full((b_size,), 0.9))  # one-sided label smoothing
            errD_fake = criterion(output_fake, torch.zeros(b_size))
            errD = errD_real + errD_fake
            errD.backward()
            optimizerD.step()

            # (2) Update G network: maximize log(D(G(z)))
            netG.zero_grad()
            output = netD(fake)
            errG = criterion(output, torch.ones(b_size))
            errG.backward()
            optimizerG.step()

            sum_d += errD.detach()
            sum_g += errG.detach()
        print('[%d/%d]\tLoss_D: %.4f\tLoss_G: %.4f\tSpectral distance: %.3f' % (
            epoch + 1, num_epochs, sum_d / len(dataloader), sum_g / len(dataloader),
            spectral_distance(netG, fixed_noise, target_spectrum)))


if __name__ == '__main__':
    main()
