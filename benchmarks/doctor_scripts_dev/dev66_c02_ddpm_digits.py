"""denoising diffusion on 8x8 digits, class conditional, with classifier free guidance"""
import argparse
import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from scipy import linalg

# helpers

def cycle(dl):
    while True:
        for data in dl:
            yield data

def extract(a, t, x_shape):
    out = a.gather(-1, t)
    return out.reshape(t.shape[0], *((1,) * (len(x_shape) - 1)))

def normalize_to_neg_one_to_one(x):
    return x * 2 - 1

def unnormalize_to_zero_to_one(x):
    return (x + 1) * 0.5

def cosine_beta_schedule(timesteps, s=0.008):
    x = torch.linspace(0, timesteps, timesteps + 1, dtype=torch.float64)
    alphas_cumprod = torch.cos(((x / timesteps) + s) / (1 + s) * math.pi * 0.5) ** 2
    alphas_cumprod = alphas_cumprod / alphas_cumprod[0]
    betas = 1 - (alphas_cumprod[1:] / alphas_cumprod[:-1])
    return torch.clip(betas, 0, 0.999)

# network

class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim
    def forward(self, t):
        half = self.dim // 2
        freqs = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
        emb = t[:, None].float() * freqs[None, :]
        return torch.cat((emb.sin(), emb.cos()), dim=-1)

class Block(nn.Module):
    def __init__(self, dim, cond_dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.to_scale_shift = nn.Linear(cond_dim, dim * 2)
        self.net = nn.Sequential(nn.Linear(dim, dim * 2), nn.SiLU(), nn.Dropout(0.05), nn.Linear(dim * 2, dim))
    def forward(self, x, cond):
        scale, shift = self.to_scale_shift(cond).chunk(2, dim=-1)
        h = self.norm(x) * (scale + 1) + shift
        return x + self.net(h)

class Denoiser(nn.Module):
    def __init__(self, data_dim=64, dim=192, depth=4, num_classes=10):
        super().__init__()
        self.num_classes = num_classes
        self.time_mlp = nn.Sequential(SinusoidalPosEmb(64), nn.Linear(64, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.class_emb = nn.Embedding(num_classes + 1, dim)  # last one is the null class
        self.proj_in = nn.Linear(data_dim, dim)
        self.blocks = nn.ModuleList([Block(dim, dim) for _ in range(depth)])
        self.proj_out = nn.Linear(dim, data_dim)
    def forward(self, x, t, classes, drop_prob=0.0):
        if drop_prob > 0:
            drop = torch.rand(classes.shape[0]) < drop_prob
            classes = torch.where(drop, torch.full_like(classes, self.num_classes), classes)
        cond = F.silu(self.time_mlp(t) + self.class_emb(classes))
        h = self.proj_in(x)
        for block in self.blocks:
            h = block(h, cond)
        return self.proj_out(h)
    def forward_with_cond_scale(self, x, t, classes, cond_scale=1.0):
        logits = self.forward(x, t, classes)
        if cond_scale == 1:
            return logits
        null = torch.full_like(classes, self.num_classes)
        null_logits = self.forward(x, t, null)
        return null_logits + (logits - null_logits) * cond_scale

# diffusion

class GaussianDiffusion(nn.Module):
    def __init__(self, model, timesteps=200, sampling_timesteps=40, cond_drop_prob=0.15):
        super().__init__()
        self.model = model
        self.num_timesteps = timesteps
        self.sampling_timesteps = sampling_timesteps
        self.cond_drop_prob = cond_drop_prob
        betas = cosine_beta_schedule(timesteps)
        alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
        self.register_buffer("alphas_cumprod", alphas_cumprod.float())
        self.register_buffer("sqrt_alphas_cumprod", alphas_cumprod.sqrt().float())
        self.register_buffer("sqrt_one_minus_alphas_cumprod", (1.0 - alphas_cumprod).sqrt().float())
    def q_sample(self, x_start, t, noise):
        return (extract(self.sqrt_alphas_cumprod, t, x_start.shape) * x_start
                + extract(self.sqrt_one_minus_alphas_cumprod, t, x_start.shape) * noise)
    @torch.no_grad()
    def sample(self, classes, cond_scale=1.5, eta=1.0):
        times = torch.linspace(-1, self.num_timesteps - 1, steps=self.sampling_timesteps + 1)
        times = list(reversed(times.int().tolist()))
        img = torch.randn(classes.shape[0], 64)
        for time, time_next in zip(times[:-1], times[1:]):
            t = torch.full((classes.shape[0],), time, dtype=torch.long)
            pred_noise = self.model.forward_with_cond_scale(img, t, classes, cond_scale)
            alpha = self.alphas_cumprod[time]
            x_start = (img - (1 - alpha).sqrt() * pred_noise) / alpha.sqrt()
            x_start = x_start.clamp(-1.0, 1.0)
            pred_noise = (img - alpha.sqrt() * x_start) / (1 - alpha).sqrt()
            if time_next < 0:
                img = x_start
                continue
            alpha_next = self.alphas_cumprod[time_next]
            sigma = eta * ((1 - alpha / alpha_next) * (1 - alpha_next) / (1 - alpha)).sqrt()
            c = (1 - alpha_next - sigma ** 2).sqrt()
            img = alpha_next.sqrt() * x_start + c * pred_noise + sigma * torch.randn_like(img)
        return unnormalize_to_zero_to_one(img)
    def forward(self, img, classes):
        b = img.shape[0]
        img = normalize_to_neg_one_to_one(img)
        t = torch.randint(0, self.num_timesteps, (b,)).long()
        noise = torch.randn_like(img)
        x = self.q_sample(img, t, noise)
        drop = self.cond_drop_prob if self.training else 0.0
        return F.mse_loss(self.model(x, t, classes, drop_prob=drop), noise)

class EMA:
    def __init__(self, model, beta=0.995, update_after_step=200):
        self.beta, self.update_after_step, self.step = beta, update_after_step, 0
        self.ema_model = copy.deepcopy(model).eval().requires_grad_(False)
    @torch.no_grad()
    def update(self, model):
        self.step += 1
        if self.step <= self.update_after_step:
            self.ema_model.load_state_dict(model.state_dict())
            return
        for ma, p in zip(self.ema_model.parameters(), model.parameters()):
            ma.lerp_(p, 1.0 - self.beta)

# evaluation

def frechet_distance(a, b):
    mu_a, mu_b = a.mean(0), b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    covmean = linalg.sqrtm(cov_a @ cov_b).real
    return float(((mu_a - mu_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * covmean))

class Evaluator:
    """Frechet distance in PCA space to held out digits, and the accuracy of a judge."""
    def __init__(self, x_train, y_train, x_test):
        self.pca = PCA(20, random_state=0).fit(x_train)
        self.judge = SVC(gamma="scale").fit(x_train, y_train)
        self.real = self.pca.transform(x_test)
        self.floor = frechet_distance(self.pca.transform(x_train), self.real)
    def __call__(self, diffusion, n_per_class=40):
        classes = torch.arange(10).repeat_interleave(n_per_class)
        fake = diffusion.sample(classes).numpy()
        acc = float((self.judge.predict(fake) == classes.numpy()).mean())
        return frechet_distance(self.pca.transform(fake), self.real), acc

def main():
    p = argparse.ArgumentParser()
    p.add_argument("--steps", type=int, default=1200)
    p.add_argument("--batch_size", type=int, default=128)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    np.random.seed(args.seed), torch.manual_seed(args.seed)
    digits = load_digits()
    x = (digits.data / 16.0).astype("float32")
    x_tr, x_te, y_tr, y_te = train_test_split(x, digits.target, test_size=0.3, stratify=digits.target, random_state=0)
    ds = TensorDataset(torch.from_numpy(x_tr), torch.from_numpy(y_tr).long())
    dl = cycle(DataLoader(ds, batch_size=args.batch_size, shuffle=True, drop_last=True))
    x_te_t, y_te_t = torch.from_numpy(x_te), torch.from_numpy(y_te).long()
    evaluate = Evaluator(x_tr, y_tr, x_te)
    diffusion = GaussianDiffusion(Denoiser())
    opt = torch.optim.AdamW(diffusion.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=args.steps)
    ema = EMA(diffusion)
    diffusion.train()
    running = 0.0
    for step in range(1, args.steps + 1):
        img, classes = next(dl)
        loss = diffusion(img, classes)
        loss.backward()
        nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        sched.step()
        ema.update(diffusion)
        running += loss.item()
        if step % 400 == 0:
            with torch.no_grad():
                val = np.mean([ema.ema_model(x_te_t, y_te_t).item() for _ in range(4)])
            print(f"step {step}: loss {running / 400:.4f} val(ema) {val:.4f} lr {sched.get_last_lr()[0]:.2e}")
            running = 0.0
    fd, acc = evaluate(ema.ema_model)
    print(f"FINAL frechet {fd:.4f} (train vs test {evaluate.floor:.4f}) judge acc {acc:.4f}")

if __name__ == "__main__":
    main()
