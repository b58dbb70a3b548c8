import torch
import torch.nn as nn
import torch.nn.functional as F
from toydata import draw_digits
from torch.utils.data import DataLoader, TensorDataset


class Denoiser(nn.Module):
    def __init__(self, n_steps, ch=24):
        super().__init__()
        self.time_embed = nn.Embedding(n_steps, ch)
        self.conv_in = nn.Conv2d(1, ch, 3, padding=1)
        self.conv_mid = nn.Conv2d(ch, ch, 3, padding=1)
        self.norm = nn.GroupNorm(4, ch)
        self.conv_out = nn.Conv2d(ch, 1, 3, padding=1)

    def forward(self, x, t):
        h = F.silu(self.conv_in(x) + self.time_embed(t)[:, :, None, None])
        h = h + F.silu(self.norm(self.conv_mid(h)))
        return self.conv_out(h)


class DenoiseDiffusion:
    def __init__(self, eps_model, n_steps):
        self.eps_model, self.n_steps = eps_model, n_steps
        self.beta = torch.linspace(0.001, 0.06, n_steps)
        self.alpha_bar = torch.cumprod(1.0 - self.beta, dim=0)

    def q_sample(self, x0, t, eps):
        a = self.alpha_bar[t].view(-1, 1, 1, 1)
        return a.sqrt() * x0 + (1 - a).sqrt() * eps

    def loss(self, x0):
        t = torch.randint(0, self.n_steps, (x0.shape[0],))
        noise = torch.randn_like(x0)
        xt = self.q_sample(x0, t, noise)
        eps_theta = self.eps_model(xt, t)
        return F.mse_loss(noise, eps_theta)


torch.manual_seed(0)
images, labels = draw_digits(1000, seed=4)
loader = DataLoader(TensorDataset(images.float() / 127.5 - 1, labels), batch_size=50, shuffle=True)
model = Denoiser(60)
diffusion = DenoiseDiffusion(model, 60)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(5):
    total = 0.0
    for data, _ in loader:
        optimizer.zero_grad()
        loss = diffusion.loss(data)
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(epoch, total / len(loader))
