"""A small variational autoencoder of digits, trained in one file."""

import copy
import math
import os
import tempfile
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

# -----------------------------------------------------------------------------
# default config values
out_dir = tempfile.mkdtemp()
eval_interval = 100
log_interval = 50
# data
n_images = 1600
batch_size = 64
# optimizer
learning_rate = 2e-3
max_iters = 600
weight_decay = 1e-4
# learning rate decay settings
warmup_iters = 30
lr_decay_iters = max_iters
min_lr = 2e-4
# moving average of the weights, for evaluation
ema_decay = 0.98
# -----------------------------------------------------------------------------

torch.manual_seed(1337)
device = 'cuda' if torch.cuda.is_available() else 'cpu'

images, _ = draw_digits(n_images, size=16, seed=3)
data = images.float().div(255).view(n_images, -1).to(device)
n = int(0.9 * n_images)
train_data, val_data = data[:n], data[n:]


def get_batch():
    ix = torch.randint(len(train_data), (batch_size,))
    return train_data[ix]


@dataclass
class VAEConfig:
    n_pixels: int = 256
    n_hidden: int = 256
    n_latent: int = 12


class VAE(nn.Module):

    def __init__(self, config):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(config.n_pixels, config.n_hidden),
            nn.GELU(),
            nn.Linear(config.n_hidden, config.n_hidden),
            nn.GELU(),
            nn.Linear(config.n_hidden, 2 * config.n_latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.n_latent, config.n_hidden),
            nn.GELU(),
            nn.Linear(config.n_hidden, config.n_hidden),
            nn.GELU(),
            nn.Linear(config.n_hidden, config.n_pixels),
        )
        print("number of parameters: %.2fK" % (sum(p.numel() for p in self.parameters()) / 1e3,))

    def encode(self, x):
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return mu, logvar

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        logits = self.decoder(z)
        # both terms in nats per image
        recon = F.binary_cross_entropy_with_logits(logits, x, reduction='none').sum(dim=1).mean()
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(dim=1).mean()
        return logits, recon, kl


@torch.no_grad()
def update_ema(ema_model, model):
    for p_ema, p in zip(ema_model.parameters(), model.parameters()):
        p_ema.mul_(ema_decay).add_(p, alpha=1 - ema_decay)


@torch.no_grad()
def estimate_loss(net):
    out = {}
    net.eval()
    for split, x in (('train', train_data), ('val', val_data)):
        _, recon, kl = net(x)
        out[split] = (recon + kl).item()
    net.train()
    return out


# learning rate decay scheduler (cosine with warmup)
def get_lr(it):
    # 1) linear warmup for warmup_iters steps
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    # 2) if it > lr_decay_iters, return min learning rate
    if it > lr_decay_iters:
        return min_lr
    # 3) in between, use cosine decay down to min learning rate
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return min_lr + coeff * (learning_rate - min_lr)


config = VAEConfig()
model = VAE(config).to(device)
ema_model = copy.deepcopy(model)
optimizer = torch.optim.AdamW(
    model.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay)

best_val_loss = 1e9
for iter_num in range(max_iters + 1):
    lr = get_lr(iter_num)
    for param_group in optimizer.param_groups:
        param_group['lr'] = lr

    if iter_num % eval_interval == 0:
        losses = estimate_loss(ema_model)
        print(f"step {iter_num}: train loss {losses['train']:.2f}, val loss {losses['val']:.2f}")
        if losses['val'] < best_val_loss:
            best_val_loss = losses['val']
            checkpoint = {'model': ema_model.state_dict(), 'config': asdict(config), 'iter_num': iter_num}
            torch.save(checkpoint, os.path.join(out_dir, 'ckpt.pt'))

    _, recon, kl = model(get_batch())
    loss = recon + kl
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    update_ema(ema_model, model)
    if iter_num % log_interval == 0:
        print(f"iter {iter_num}: recon {recon.item():.2f}, kl {kl.item():.2f}, lr {lr:.5f}")

# how much of the variance of unseen digits do the reconstructions explain?
ema_model.load_state_dict(torch.load(os.path.join(out_dir, 'ckpt.pt'), map_location=device)['model'])
ema_model.eval()
with torch.no_grad():
    mu, _ = ema_model.encode(val_data)
    error = F.mse_loss(torch.sigmoid(ema_model.decoder(mu)), val_data)
    baseline = F.mse_loss(train_data.mean(dim=0).expand_as(val_data), val_data)
    samples = torch.sigmoid(ema_model.decoder(torch.randn_like(mu[:16])))
print(f"best val loss {best_val_loss:.2f}, explained variance {1 - (error / baseline).item():.3f}")
torch.save(samples.view(16, 16, 16), os.path.join(out_dir, 'samples.pt'))
