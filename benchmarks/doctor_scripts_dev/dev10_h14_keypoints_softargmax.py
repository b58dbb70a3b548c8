"""Two points per picture, a dot and a ring: heatmaps, expected coordinates, flips that move the points, a learner with callbacks."""
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn, optim

SIZE = 20


def marks(count, seed):
    g = torch.Generator().manual_seed(seed)
    points = 3 + (SIZE - 7) * torch.rand(count, 2, 2, generator=g)
    close = (points[:, 0] - points[:, 1]).norm(dim=1) < 6
    while close.any():
        points[close] = 3 + (SIZE - 7) * torch.rand(int(close.sum()), 2, 2, generator=g)
        close = (points[:, 0] - points[:, 1]).norm(dim=1) < 6
    y, x = torch.meshgrid(torch.arange(SIZE).float(), torch.arange(SIZE).float(), indexing="ij")
    distance = ((x - points[..., 0, None, None]) ** 2 + (y - points[..., 1, None, None]) ** 2).sqrt()
    dot, ring = torch.exp(-distance[:, 0] ** 2 / 2.5), torch.exp(-(distance[:, 1] - 2.5) ** 2 / 0.8)
    images = (dot + ring)[:, None] + 0.1 * torch.randn(count, 1, SIZE, SIZE, generator=g)
    return images, points / (SIZE - 1) * 2 - 1  # corners are -1 and 1


class PointNet(nn.Module):
    """Full resolution with dilation; a softmax over places gives the expected place."""

    def __init__(self, width=24):
        super().__init__()
        layers, previous = [], 1
        for dilation in (1, 2, 3, 1):
            layers += [nn.Conv2d(previous, width, 3, padding=dilation, dilation=dilation), nn.GroupNorm(4, width), nn.ReLU()]
            previous = width
        self.body, self.heat = nn.Sequential(*layers), nn.Conv2d(width, 2, 1)
        self.register_buffer("axis", torch.linspace(-1, 1, SIZE))

    def forward(self, x):
        heat = self.heat(self.body(x)).flatten(2).softmax(-1).view(len(x), 2, SIZE, SIZE)
        px, py = (heat.sum(2) * self.axis).sum(-1), (heat.sum(3) * self.axis).sum(-1)
        spread = (heat.sum(2) * (self.axis - px[..., None]) ** 2).sum(-1) + (heat.sum(3) * (self.axis - py[..., None]) ** 2).sum(-1)
        return torch.stack([px, py], -1), spread


def point_loss(output, points):
    predicted, spread = output
    return F.mse_loss(predicted, points) + 0.05 * (spread - 0.01).abs().mean()


class Batches:
    def __init__(self, images, points, bs, train):
        self.images, self.points, self.bs, self.train = images, points, bs, train

    def __len__(self):
        return -(-len(self.images) // self.bs)

    def __iter__(self):
        order = torch.randperm(len(self.images)) if self.train else torch.arange(len(self.images))
        for index in order.split(self.bs):
            x, y = self.images[index], self.points[index]
            if self.train:  # mirror half of the batch, points with it
                flip = torch.rand(len(x)) < 0.5
                x = torch.where(flip[:, None, None, None], x.flip(-1), x)
                y = torch.where(flip[:, None, None], y * torch.tensor([-1.0, 1.0]), y)
            yield x, y


class Callback:
    def before_fit(self, learn): pass
    def after_step(self, learn): pass
    def after_epoch(self, learn): pass


class OneCycle(Callback):
    def before_fit(self, learn):
        total = learn.n_epochs * len(learn.dls.train)
        self.schedule = optim.lr_scheduler.OneCycleLR(learn.opt, learn.lr, total_steps=total, pct_start=0.25)

    def after_step(self, learn):
        self.schedule.step()


class Recorder(Callback):
    def before_fit(self, learn):
        self.smooth, self.steps = torch.zeros(()), 0

    def after_step(self, learn):
        self.steps += 1
        self.smooth = 0.95 * self.smooth + 0.05 * learn.loss.detach()

    def after_epoch(self, learn):
        loss, pixels = learn.validate()
        print(f"{learn.epoch:3d} train {self.smooth / (1 - 0.95 ** self.steps):.5f} valid {loss:.5f} error {pixels:.3f} px")


class Learner:
    def __init__(self, dls, model, loss_func, cbs):
        self.dls, self.model, self.loss_func, self.cbs = dls, model, loss_func, cbs

    def __call__(self, name):
        for cb in self.cbs:
            getattr(cb, name)(self)

    def fit_one_cycle(self, n_epochs, lr):
        self.n_epochs, self.lr = n_epochs, lr
        self.opt = optim.AdamW(self.model.parameters(), lr=lr, betas=(0.95, 0.99), weight_decay=0.01)
        self("before_fit")
        for self.epoch in range(n_epochs):
            self.model.train()
            for self.xb, self.yb in self.dls.train:
                self.loss = self.loss_func(self.model(self.xb), self.yb)
                self.loss.backward()
                self.opt.step()
                self.opt.zero_grad()
                self("after_step")
            self("after_epoch")

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        loss = error = count = 0
        for xb, yb in self.dls.valid:
            output = self.model(xb)
            loss += self.loss_func(output, yb) * len(xb)
            error += (output[0] - yb).norm(dim=-1).mean(1).sum() * (SIZE - 1) / 2
            count += len(xb)
        return float(loss) / count, float(error) / count


def main():
    torch.manual_seed(3)
    (tx, ty), (vx, vy) = marks(1200, 0), marks(300, 1)
    mean, std = tx.mean(), tx.std()
    dls = SimpleNamespace(train=Batches((tx - mean) / std, ty, 60, True), valid=Batches((vx - mean) / std, vy, 150, False))
    learn = Learner(dls, PointNet(), point_loss, [OneCycle(), Recorder()])
    learn.fit_one_cycle(12, lr=5e-3)


if __name__ == "__main__":
    main()
