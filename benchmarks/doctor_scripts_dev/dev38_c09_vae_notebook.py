# # A variational autoencoder for small digits
#
# A notebook, exported as a script. 16 x 16 pixels, 12 latent numbers, a fully connected encoder and decoder.

# In[1]:
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import Digits

torch.manual_seed(1)
np.random.seed(1)

# In[2]:
LATENT = 12
HIDDEN = 192
BATCH = 60
EPOCHS = 30

train_images = Digits(train=True).data.float().div(255)
test_images = Digits(train=False).data.float().div(255)
print(train_images.shape, train_images.min().item(), train_images.max().item())

train_loader = DataLoader(TensorDataset(train_images), batch_size=BATCH, shuffle=True)
test_loader = DataLoader(TensorDataset(test_images), batch_size=100)


# In[3]:
class VAE(nn.Module):
    def __init__(self, pixels=256, hidden=HIDDEN, latent=LATENT):
        super().__init__()
        self.fc1 = nn.Linear(pixels, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc_mu = nn.Linear(hidden, latent)
        self.fc_logvar = nn.Linear(hidden, latent)
        self.fc3 = nn.Linear(latent, hidden)
        self.fc4 = nn.Linear(hidden, hidden)
        self.fc5 = nn.Linear(hidden, pixels)

    def encode(self, x):
        h = F.relu(self.fc1(x.flatten(1)))
        h = F.relu(self.fc2(h))
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + std * torch.randn_like(std)

    def decode(self, z):
        h = F.relu(self.fc3(z))
        h = F.relu(self.fc4(h))
        return self.fc5(h).view(-1, 1, 16, 16)

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def elbo_terms(logits, x, mu, logvar):
    """Reconstruction and divergence, each summed over a sample and averaged over the batch."""
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    return bce, kld


# In[4]:
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[20, 26], gamma=0.4)
print(sum(p.numel() for p in model.parameters()), "parameters")


def train_epoch():
    model.train()
    sums = torch.zeros(2)
    for (x,) in train_loader:
        logits, mu, logvar = model(x)
        bce, kld = elbo_terms(logits, x, mu, logvar)
        loss = bce + kld
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sums += len(x) * torch.stack([bce.detach(), kld.detach()])
    return (sums / len(train_images)).tolist()


def test_epoch():
    model.eval()
    sums = torch.zeros(2)
    with torch.no_grad():
        for (x,) in test_loader:
            logits, mu, logvar = model(x)
            bce, kld = elbo_terms(logits, x, mu, logvar)
            sums += len(x) * torch.stack([bce, kld])
    return (sums / len(test_images)).tolist()


# In[5]:
history = []
for epoch in range(1, EPOCHS + 1):
    train_bce, train_kld = train_epoch()
    test_bce, test_kld = test_epoch()
    scheduler.step()
    history.append((train_bce + train_kld, test_bce + test_kld))
    if epoch % 5 == 0:
        print(f"epoch {epoch:2d}  train {train_bce + train_kld:.2f} (bce {train_bce:.2f}, kld {train_kld:.2f})"
              f"  test {test_bce + test_kld:.2f} (bce {test_bce:.2f}, kld {test_kld:.2f})")

# In[6]:
# How good are reconstructions, compared with the mean image?
with torch.no_grad():
    mu, _ = model.encode(test_images)
    reconstructed = torch.sigmoid(model.decode(mu))
    squared = F.mse_loss(reconstructed, test_images).item()
    of_mean = F.mse_loss(train_images.mean(0, keepdim=True).expand_as(test_images), test_images).item()
print(f"mean squared error {squared:.4f}, of the mean image {of_mean:.4f}")

# In[7]:
# One drawn digit, as characters
with torch.no_grad():
    drawn = torch.sigmoid(model.decode(torch.randn(1, LATENT)))[0, 0]
for row in drawn.tolist():
    print("".join(" .:*#"[min(int(v * 5), 4)] for v in row))
