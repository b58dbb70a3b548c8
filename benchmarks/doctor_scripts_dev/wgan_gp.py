import torch
import torch.autograd as autograd
import torch.nn as nn
from toydata import draw_digits
from torch.utils.data import DataLoader, TensorDataset

latent_dim, n_critic, lambda_gp = 16, 2, 10
torch.manual_seed(0)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(latent_dim, 64), nn.LeakyReLU(0.2, inplace=True), nn.Linear(64, 128),
                                   nn.LeakyReLU(0.2, inplace=True), nn.Linear(128, 256), nn.Tanh())  # fmt: skip

    def forward(self, z):
        return self.model(z).view(z.shape[0], 1, 16, 16)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(256, 128), nn.LeakyReLU(0.2, inplace=True), nn.Linear(128, 64),
                                   nn.LeakyReLU(0.2, inplace=True), nn.Linear(64, 1))  # fmt: skip

    def forward(self, img):
        return self.model(img.view(img.shape[0], -1))


generator, discriminator = Generator(), Discriminator()
images, _ = draw_digits(900, seed=8)
dataloader = DataLoader(TensorDataset(images.float() / 127.5 - 1), batch_size=60, shuffle=True)
optimizer_G = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.9))
optimizer_D = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.9))


def compute_gradient_penalty(D, real_samples, fake_samples):
    alpha = torch.rand(real_samples.size(0), 1, 1, 1)
    interpolates = (alpha * real_samples + ((1 - alpha) * fake_samples)).requires_grad_(True)
    d_interpolates = D(interpolates)
    gradients = autograd.grad(outputs=d_interpolates, inputs=interpolates, grad_outputs=torch.ones_like(d_interpolates),
                              create_graph=True, retain_graph=True, only_inputs=True)[0]  # fmt: skip
    gradients = gradients.view(gradients.size(0), -1)
    return ((gradients.norm(2, dim=1) - 1) ** 2).mean()


for epoch in range(4):
    for i, (real_imgs,) in enumerate(dataloader):
        optimizer_D.zero_grad()
        z = torch.randn(real_imgs.shape[0], latent_dim)
        fake_imgs = generator(z).detach()
        gradient_penalty = compute_gradient_penalty(discriminator, real_imgs, fake_imgs)
        d_loss = -torch.mean(discriminator(real_imgs)) + torch.mean(discriminator(fake_imgs))
        d_loss = d_loss + lambda_gp * gradient_penalty
        d_loss.backward()
        optimizer_D.step()
        if i % n_critic == 0:
            optimizer_G.zero_grad()
            g_loss = -torch.mean(discriminator(generator(z)))
            g_loss.backward()
            optimizer_G.step()
    print(f"[Epoch {epoch}] [D loss: {d_loss.item():.3f}] [G loss: {g_loss.item():.3f}]")
