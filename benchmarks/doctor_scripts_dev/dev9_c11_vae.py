"""VAE in the style of the basic examples, with KL annealing and summed losses."""
import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Digits

BATCH, EPOCHS, LATENT = 50, 14, 8
torch.manual_seed(1)
to01 = lambda u8: u8.float().div(255)
train_loader = DataLoader(Digits(train=True, transform=to01), batch_size=BATCH, shuffle=True)
test_loader = DataLoader(Digits(train=False, transform=to01), batch_size=BATCH, shuffle=False)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(256, 200)
        self.fc21 = nn.Linear(200, LATENT)
        self.fc22 = nn.Linear(200, LATENT)
        self.fc3 = nn.Linear(LATENT, 200)
        self.fc4 = nn.Linear(200, 256)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 256))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


model = VAE()
optimizer = optim.Adam(model.parameters(), lr=1e-3)


def loss_function(recon_x, x, mu, logvar, beta=1.0):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 256), reduction='sum')
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + beta * KLD, BCE, KLD


def train(epoch):
    model.train()
    train_loss = 0
    beta = min(1.0, 0.1 + epoch / 8)
    for batch_idx, (data, _) in enumerate(train_loader):
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss, *_ = loss_function(recon_batch, data, mu, logvar, beta)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
    print(f'====> Epoch: {epoch} Average loss: {train_loss / len(train_loader.dataset):.4f} (beta {beta:.2f})')


def test(epoch):
    model.eval()
    sums = torch.zeros(3)
    mse = baseline = 0.
    with torch.no_grad():
        for data, _ in test_loader:
            recon, mu, logvar = model(data)
            sums += torch.stack(loss_function(recon, data, mu, logvar))
            mse += F.mse_loss(recon.view_as(data), data, reduction='sum').item()
            baseline += F.mse_loss(data.mean(0, keepdim=True).expand_as(data), data, reduction='sum').item()
    elbo, bce, kld = (sums / len(test_loader.dataset)).tolist()
    print(f'====> Test -ELBO {elbo:.2f} = {bce:.2f} + {kld:.2f}, explained {1 - mse / baseline:.3f}')


if __name__ == "__main__":
    for epoch in range(1, EPOCHS + 1):
        train(epoch)
        test(epoch)
    with torch.no_grad():
        sample = model.decode(torch.randn(16, LATENT)).view(16, 1, 16, 16)
    print("sample range", sample.min().item(), sample.max().item())
