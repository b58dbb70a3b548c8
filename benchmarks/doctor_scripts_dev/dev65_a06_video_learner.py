"""Short clips of a moving square: which way it goes (4 classes), and how fast (a number). A small Learner with callbacks."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
SPEED_MEAN, SPEED_STD = 1.75, 0.72

def make_clips(per_class=250, frames=6, size=16, seed=0):
    """Clips (N, T, C, H, W), directions and speeds in pixels a frame, one direction after the other."""
    g = torch.Generator().manual_seed(seed)
    clips, ways, speeds = [], [], []
    for way, (dy, dx) in enumerate(DIRECTIONS.values()):
        for _ in range(per_class):
            speed = 0.5 + 2.5 * torch.rand((), generator=g).item()
            color = torch.randint(0, 2, (3, 1, 1), generator=g) * 2.0 - 1.0
            start = torch.randint(0, size, (2,), generator=g)
            clip = 0.3 * torch.randn(frames, 3, size, size, generator=g)
            for t in range(frames):
                frame = torch.zeros(3, size, size)
                frame[:, :5, :5] = 2 * color
                step = round(speed * t)
                clip[t] += frame.roll((int(start[0]) + dy * step, int(start[1]) + dx * step), dims=(1, 2))
            clips.append(clip)
            ways.append(way)
            speeds.append(speed)
    return torch.stack(clips), torch.tensor(ways), torch.tensor(speeds)

def get_dls(bs=40, valid_pct=0.2, seed=42):
    clips, ways, speeds = make_clips()
    speeds = (speeds - SPEED_MEAN) / SPEED_STD
    perm = torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed))
    cut = int(valid_pct * len(clips))
    valid, train = perm[:cut], perm[cut:].sort().values
    train_ds = TensorDataset(clips[train], ways[train], speeds[train])
    valid_ds = TensorDataset(clips[valid], ways[valid], speeds[valid])
    return DataLoader(train_ds, bs, shuffle=True), DataLoader(valid_ds, bs * 2)

def ConvLayer(ni, nf, stride):
    return nn.Sequential(nn.Conv3d(ni, nf, 3, stride, padding=1, bias=False), nn.BatchNorm3d(nf), nn.ReLU())

class ClipNet(nn.Module):
    def __init__(self, nf=16, n_ways=4):
        super().__init__()
        self.body = nn.Sequential(ConvLayer(3, nf, (1, 2, 2)), ConvLayer(nf, 2 * nf, (1, 2, 2)), ConvLayer(2 * nf, 2 * nf, 1))
        self.heads = nn.ModuleDict({
            "way": nn.Sequential(nn.Linear(2 * nf, 32), nn.ReLU(), nn.Linear(32, n_ways)),
            "speed": nn.Sequential(nn.Linear(2 * nf, 32), nn.ReLU(), nn.Linear(32, 1)),
        })

    def forward(self, x):
        x = x.permute(0, 2, 1, 3, 4)  # Conv3d wants channels before time
        x = self.body(x).mean(dim=(2, 3, 4))
        return self.heads["way"](x), self.heads["speed"](x).squeeze(1)

class MultiTaskLoss:
    def __init__(self, speed_weight=0.5):
        self.speed_weight = speed_weight

    def __call__(self, preds, ways, speeds):
        return F.cross_entropy(preds[0], ways) + self.speed_weight * F.mse_loss(preds[1], speeds)

class Callback:
    def __getattr__(self, name):
        if name.startswith(("before_", "after_")):
            return lambda: None
        raise AttributeError(name)

class MirrorClips(Callback):
    """Mirrors every other clip from left to right; what went left then goes right."""

    swap = torch.tensor([1, 0, 2, 3])

    def before_batch(self):
        if not self.learn.training:
            return
        xb, ways, speeds = self.learn.batch
        chosen = torch.rand(len(xb)) < 0.5
        xb = torch.where(chosen[:, None, None, None, None], xb.flip(-1), xb)
        ways = torch.where(chosen, self.swap[ways], ways)
        self.learn.batch = xb, ways, speeds

class OneCycle(Callback):
    def before_fit(self):
        total = self.learn.n_epoch * len(self.learn.dls[0])
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.learn.opt, self.learn.lr, total_steps=total)

    def after_batch(self):
        if self.learn.training:
            self.sched.step()

class Recorder(Callback):
    def before_epoch(self):
        self.sums = {True: [0.0, 0.0, 0.0, 0], False: [0.0, 0.0, 0.0, 0]}

    def after_batch(self):
        (way, speed), (_, ways, speeds) = self.learn.preds, self.learn.batch
        s, n = self.sums[self.learn.training], len(ways)
        s[0] += self.learn.loss.item() * n
        s[1] += (way.argmax(1) == ways).sum().item()
        s[2] += ((speed - speeds).abs() * SPEED_STD).sum().item()
        s[3] += n

    def after_epoch(self):
        (tl, _, _, tn), (vl, right, error, vn) = self.sums[True], self.sums[False]
        print(f"{self.learn.epoch:3d}  train {tl / tn:.4f}  valid {vl / vn:.4f}  accuracy {right / vn:.3f}  mae {error / vn:.3f}")

class Learner:
    def __init__(self, dls, model, loss_func, lr=1e-2, wd=1e-3, cbs=()):
        self.dls, self.model, self.loss_func, self.lr, self.wd, self.cbs = dls, model, loss_func, lr, wd, cbs
        for cb in cbs:
            cb.learn = self

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event)()

    def one_batch(self):
        self("before_batch")
        self.preds = self.model(self.batch[0])
        self.loss = self.loss_func(self.preds, *self.batch[1:])
        if self.training:
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
        self("after_batch")

    def all_batches(self, training):
        self.training = training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            for self.batch in self.dls[0 if training else 1]:
                self.one_batch()

    def fit(self, n_epoch):
        self.n_epoch = n_epoch
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=self.lr, weight_decay=self.wd)
        self("before_fit")
        for self.epoch in range(n_epoch):
            self("before_epoch")
            self.all_batches(True)
            self.all_batches(False)
            self("after_epoch")

def main():
    torch.manual_seed(0)
    learn = Learner(get_dls(), ClipNet(), MultiTaskLoss(), cbs=[MirrorClips(), OneCycle(), Recorder()])
    learn.fit(8)

if __name__ == "__main__":
    main()
