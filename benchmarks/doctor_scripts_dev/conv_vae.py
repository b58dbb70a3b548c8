import torch
from torch import nn, optim
from torch.nn import functional as F
from toydata import draw_digits
from torch.utils.data import DataLoader, TensorDataset


class BetaVAE(nn.Module):
    def __init__(self, latent_dim=8, kld_weight=0.002):
        super().__init__()
        self.kld_weight = kld_weight
        self.encoder = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(),
                                     nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.LeakyReLU())  # fmt: skip
        self.fc_mu, self.fc_var = nn.Linear(512, latent_dim), nn.Linear(512, latent_dim)
        self.decoder_input = nn.Linear(latent_dim, 512)
        self.decoder = nn.Sequential(nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(),
                                     nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Sigmoid())  # fmt: skip

    def encode(self, input):
        result = torch.flatten(self.encoder(input), start_dim=1)
        return [self.fc_mu(result), self.fc_var(result)]

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return torch.randn_like(std) * std + mu

    def forward(self, input):
        mu, log_var = self.encode(input)
        z = self.reparameterize(mu, log_var)
        return [self.decoder(self.decoder_input(z).view(-1, 32, 4, 4)), input, mu, log_var]

    def loss_function(self, recons, input, mu, log_var):
        recons_loss = F.mse_loss(recons, input)
        kld_loss = torch.mean(-0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp(), dim=1), dim=0)
        return {"loss": recons_loss + self.kld_weight * kld_loss, "Reconstruction_Loss": recons_loss.detach()}


torch.manual_seed(0)
images, labels = draw_digits(1000, seed=2)
train_loader = DataLoader(TensorDataset(images[:800].float() / 255, labels[:800]), batch_size=40, shuffle=True)
val_loader = DataLoader(TensorDataset(images[800:].float() / 255, labels[800:]), batch_size=100)
vae = BetaVAE()
opt = optim.Adam(vae.parameters(), lr=3e-3)
for epoch in range(5):
    vae.train()
    for real_img, _ in train_loader:
        opt.zero_grad()
        results = vae(real_img)
        train_loss = vae.loss_function(*results)
        train_loss["loss"].backward()
        opt.step()
    vae.eval()
    with torch.no_grad():
        val = [vae.loss_function(*vae(x))["loss"].item() for x, _ in val_loader]
    print(epoch, train_loss["loss"].item(), sum(val) / len(val))
