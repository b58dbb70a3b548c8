"""Residual denoiser (DnCNN style) trained by iterations on random crops, evaluated with a moving average of its weights."""
import copy
import os
import sys

import torch
from torch import nn

from toydata import Shapes

SIGMA = 40 / 255
PATCH, BATCH = 16, 24
ITERS = int(os.environ.get("ITERS", 400))
EVAL_EVERY = 100
DECAY = 0.97


def load_clean():
    """Pictures in [0, 1]: flat shapes over a soft gradient, without the sensor noise of the originals."""
    def clean(ds):
        out = []
        for img, mask in zip(ds.images, ds.masks):
            inside = mask > 0
            flat = torch.where(inside, img[:, inside].mean(1)[:, None, None], 0.5)
            ramp = torch.linspace(-0.15, 0.15, img.shape[-1])
            out.append((flat + ramp * (1 if len(out) % 2 else -1)).clamp(0, 1))
        return torch.stack(out)

    return clean(Shapes(train=True, count=500, size=24)), clean(Shapes(train=False, count=60, size=24))


def crops(pictures, gen):
    """Endless batches of random crops."""
    span = pictures.shape[-1] - PATCH + 1
    while True:
        idx = torch.randint(len(pictures), (BATCH,), generator=gen)
        tops = torch.randint(span, (BATCH,), generator=gen).tolist()
        lefts = torch.randint(span, (BATCH,), generator=gen).tolist()
        yield torch.stack([pictures[i, :, t:t + PATCH, l:l + PATCH] for i, t, l in zip(idx.tolist(), tops, lefts)])


def add_noise(clean, gen, sigma=SIGMA):
    return clean + sigma * torch.randn(clean.shape, generator=gen)


class DnCNN(nn.Module):
    def __init__(self, depth=5, ch=24):
        super().__init__()
        self.head = nn.Conv2d(3, ch, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(ch, ch, 3, padding=1) for _ in range(depth - 2))
        self.tail = nn.Conv2d(ch, 3, 3, padding=1)
        for conv in [self.head, *self.body]:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, x):
        h = self.head(x).relu()
        for conv in self.body:
            h = conv(h).relu()
        noise = self.tail(h)
        return x - noise


def psnr(a, b, peak=1.0):
    """Mean over the pictures."""
    mse = (a - b).pow(2).flatten(1).mean(1)
    return (10 * torch.log10(peak ** 2 / mse)).mean().item()


def update_average(avg, net, decay):
    with torch.no_grad():
        for pa, pn in zip(avg.parameters(), net.parameters()):
            pa.lerp_(pn, 1 - decay)


def main():
    torch.manual_seed(5)
    gen = torch.Generator().manual_seed(5)
    train_pics, test_pics = load_clean()
    test_noisy = add_noise(test_pics, torch.Generator().manual_seed(99))
    print(f"noisy input: {psnr(test_noisy, test_pics):.2f} dB")

    net = DnCNN()
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=150, gamma=0.5)
    criterion = nn.MSELoss()

    history = []
    stream = crops(train_pics, gen)
    for it in range(1, ITERS + 1):
        clean = next(stream)
        noisy = add_noise(clean, gen)
        restored = net(noisy)
        loss = criterion(restored, clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        update_average(average, net, DECAY)
        history.append(loss.item())
        if it % EVAL_EVERY == 0:
            average.eval()
            with torch.no_grad():
                quality = psnr(average(test_noisy).clamp(0, 1), test_pics)
            print(f"it {it}: train mse {sum(history[-EVAL_EVERY:]) / EVAL_EVERY:.5f}  test PSNR {quality:.2f} dB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
