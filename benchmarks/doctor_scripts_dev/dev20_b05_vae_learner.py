"""A variational autoencoder of small digits, trained by a miniature Learner with callbacks (fastai, course part 2)."""

import copy
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class Callback:
    learn = None


class Learner:
    def __init__(self, model, train_dl, valid_dl, loss_func, opt_func, lr, cbs=()):
        self.model, self.train_dl, self.valid_dl = model, train_dl, valid_dl
        self.loss_func = loss_func
        self.opt = opt_func(model.parameters(), lr=lr)
        self.eval_model = model
        self.beta = 1.0
        self.cbs = list(cbs)
        for cb in self.cbs:
            cb.learn = self

    def __call__(self, event):
        for cb in self.cbs:
            method = getattr(cb, event, None)
            if method is not None:
                method()

    def train_epoch(self):
        self.model.train()
        for (xb,) in self.train_dl:
            self.xb = xb
            self.pred = self.model(self.xb)
            self.loss = self.loss_func(self.pred, self.xb, beta=self.beta)
            self("after_loss")
            self.loss.backward()
            self("after_backward")
            self.opt.step()
            self("after_step")
            self.model.zero_grad()

    @torch.no_grad()
    def valid_epoch(self):
        self.eval_model.eval()
        elbo, squares, count = 0.0, 0.0, 0
        for (xb,) in self.valid_dl:
            pred = self.eval_model(xb)
            elbo += self.loss_func(pred, xb).item() * len(xb)
            squares += (pred[0].sigmoid() - xb).pow(2).mean().item() * len(xb)
            count += len(xb)
        self.metrics = {"valid loss": elbo / count, "valid mse": squares / count}

    def fit(self, epochs):
        self.epochs = epochs
        self("before_fit")
        for self.epoch in range(epochs):
            self("before_epoch")
            self.train_epoch()
            self.valid_epoch()
            self("after_epoch")


class KLWarmup(Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def before_epoch(self):
        self.learn.beta = min(1.0, (self.learn.epoch + 1) / self.epochs)


class GradClip(Callback):
    def __init__(self, max_norm):
        self.max_norm = max_norm

    def after_backward(self):
        nn.utils.clip_grad_norm_(self.learn.model.parameters(), self.max_norm)


class EMA(Callback):
    """Evaluate a moving average of the weights."""

    def __init__(self, decay=0.98):
        self.decay = decay

    def before_fit(self):
        self.learn.eval_model = copy.deepcopy(self.learn.model)

    @torch.no_grad()
    def after_step(self):
        pairs = zip(self.learn.eval_model.parameters(), self.learn.model.parameters())
        for averaged, current in pairs:
            averaged.lerp_(current, 1 - self.decay)


class Recorder(Callback):
    def before_epoch(self):
        self.losses = []

    def after_loss(self):
        self.losses.append(self.learn.loss.item())

    def after_epoch(self):
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in self.learn.metrics.items())
        print(f"epoch {self.learn.epoch:2d}  train loss {sum(self.losses) / len(self.losses):.3f}  {metrics}")


class VAE(nn.Module):
    def __init__(self, latent=10):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 24, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * 4 * 4, 128),
            nn.ReLU(),
            nn.Linear(128, 2 * latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, 128),
            nn.ReLU(),
            nn.Linear(128, 48 * 4 * 4),
            nn.ReLU(),
            nn.Unflatten(1, (48, 4, 4)),
            nn.ConvTranspose2d(48, 24, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(24, 1, 4, stride=2, padding=1),
        )

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        z = mu
        if self.training:
            z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.decoder(z), mu, logvar


def vae_loss(pred, x, beta=1.0):
    logits, mu, logvar = pred
    recon = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / x.size(0)
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
    return recon + beta * kl


def to_float(images):
    return images.float() / 255


torch.manual_seed(5)
torch.set_num_threads(1)
train_x = to_float(draw_digits(3000, seed=0)[0])
valid_x = to_float(draw_digits(600, seed=1)[0])
train_dl = DataLoader(TensorDataset(train_x), batch_size=64, shuffle=True, drop_last=True)
valid_dl = DataLoader(TensorDataset(valid_x), batch_size=128)
print(f"mse of the mean image: {(valid_x - train_x.mean(0)).pow(2).mean().item():.4f}")

learn = Learner(
    VAE(),
    train_dl,
    valid_dl,
    loss_func=vae_loss,
    opt_func=partial(optim.Adam, betas=(0.9, 0.99)),
    lr=1.5e-3,
    cbs=[KLWarmup(8), GradClip(100.0), EMA(), Recorder()],
)
learn.fit(40)
