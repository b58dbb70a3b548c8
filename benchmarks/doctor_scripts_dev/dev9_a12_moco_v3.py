"""Momentum contrast (the queue-free kind) on small digits, judged by a linear probe."""
import copy

import torch
import torch.nn.functional as F
from torch import nn

from toydata import draw_digits

EPOCHS, BATCH, TAU, LR = 14, 100, 0.95, 2e-3


def singleton(name):
    def wrapper(fn):
        def inner(self, *args):
            if getattr(self, name) is None:
                setattr(self, name, fn(self, *args))
            return getattr(self, name)
        return inner
    return wrapper


def set_requires_grad(model, val):
    for p in model.parameters():
        p.requires_grad = val


def mlp(dim, hidden, out):
    return nn.Sequential(nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))


def contrast(q, k, temperature=0.2):
    q, k = F.normalize(q, dim=-1, p=2), F.normalize(k, dim=-1, p=2)
    logits = q @ k.t() / temperature
    labels = torch.arange(len(q))
    return F.cross_entropy(logits, labels) * (2 * temperature)


def random_view(x):
    """Shift, occlusion, contrast and noise of a batch, every sample its own."""
    b, _, h, w = x.shape
    theta = torch.eye(2, 3).repeat(b, 1, 1)
    theta[:, :, :2] *= torch.empty(b, 1, 1).uniform_(0.8, 1.1)
    theta[:, :, 2] = torch.empty(b, 2).uniform_(-0.2, 0.2)
    x = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)
    hole = torch.ones(b, 1, h, w)
    for i, (top, left) in enumerate(torch.randint(0, h - 4, (b, 2)).tolist()):
        hole[i, :, top:top + 4, left:left + 4] = 0
    return x * hole * torch.empty(b, 1, 1, 1).uniform_(0.7, 1.3) + 0.1 * torch.randn_like(x)


class Encoder(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(512, dim))
        self.projector = mlp(dim, 128, 32)

    def forward(self, x):
        return self.projector(self.body(x))


class MomentumContrast(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.online_encoder = net
        self.online_predictor = mlp(32, 128, 32)
        self.target_encoder = None
        self._get_target_encoder()

    @singleton("target_encoder")
    def _get_target_encoder(self):
        target = copy.deepcopy(self.online_encoder)
        set_requires_grad(target, False)
        return target

    @torch.no_grad()
    def update_moving_average(self):
        target = self._get_target_encoder()
        for p_target, p_online in zip(target.parameters(), self.online_encoder.parameters()):
            p_target.mul_(TAU).add_(p_online, alpha=1 - TAU)

    def forward(self, x):
        one, two = random_view(x), random_view(x)
        both = torch.cat([one, two])
        pred_one, pred_two = self.online_predictor(self.online_encoder(both)).chunk(2)
        with torch.no_grad():
            proj_one, proj_two = self._get_target_encoder()(both).detach().chunk(2)
        return contrast(pred_one, proj_two) + contrast(pred_two, proj_one)


@torch.no_grad()
def features(net, x):
    net.eval()
    out = torch.cat([net.body(part) for part in x.split(200)])
    net.train()
    return out


def linear_probe(net, train, test):
    (x, y), (x_test, y_test) = train, test
    z, z_test = features(net, x), features(net, x_test)
    mean, std = z.mean(0), z.std(0) + 1e-4
    z, z_test = (z - mean) / std, (z_test - mean) / std
    probe = nn.Linear(z.shape[1], 10)
    opt = torch.optim.Adam(probe.parameters(), lr=0.02, weight_decay=1e-3)
    for _ in range(120):
        loss = F.cross_entropy(probe(z), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    return (probe(z_test).argmax(1) == y_test).float().mean().item()


if __name__ == "__main__":
    torch.manual_seed(2)
    images, _ = draw_digits(1500, seed=30, noise=0.2, shift=3)
    images = images.float() / 255
    labeled, test = [(im.float() / 255, lb) for im, lb in (draw_digits(n, seed=s, noise=0.2, shift=3) for n, s in ((200, 31), (300, 32)))]
    learner = MomentumContrast(Encoder())
    opt = torch.optim.Adam((p for p in learner.parameters() if p.requires_grad), lr=LR)
    print(f"untrained probe: {linear_probe(learner.target_encoder, labeled, test):.3f}")
    for epoch in range(EPOCHS):
        total = 0.0
        order = torch.randperm(len(images))
        for idx in order.split(BATCH):
            loss = learner(images[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
            learner.update_moving_average()
            total += loss.item() * len(idx)
        print(f"epoch {epoch} loss {total / len(images):.4f}")
    print(f"probe accuracy: {linear_probe(learner.target_encoder, labeled, test):.3f}")
