# Filling in hidden patches of digits.
# The network is given the image with some 4x4 patches blanked and a second channel that says which.
# Only hidden pixels count in the loss: what it says about visible ones is nobody's business.

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import Digits

PATCH, HIDDEN_SHARE = 4, 0.3
EPOCHS, BATCH, LR = 16, 48, 2e-3

torch.manual_seed(5)

train_x = Digits(train=True).data.float() / 255.0
valid_x = Digits(train=False).data.float() / 255.0
mean_image = train_x.mean(0, keepdim=True)
center, spread = train_x.mean(), train_x.std()


def hide(count, side, generator=None):
    """1 where a pixel is hidden, else 0. Every image has at least one hidden patch."""
    cells = side // PATCH
    draw = torch.rand(count, cells * cells, generator=generator)
    hidden = draw < HIDDEN_SHARE
    hidden |= draw == draw.min(dim=1, keepdim=True).values
    grid = hidden.float().view(count, 1, cells, cells)
    return grid.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)


def conv(n_in, n_out, stride=1):
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride, 1), nn.GroupNorm(4, n_out), nn.LeakyReLU(0.1)
    )


class Inpainter(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = conv(2, 16)
        self.b = conv(16, 32, stride=2)
        self.c = nn.Sequential(conv(32, 64, stride=2), conv(64, 64), conv(64, 64))
        self.up_b = conv(64 + 32, 32)
        self.up_a = conv(32 + 16, 16)
        self.last = nn.Conv2d(16, 1, 1)

    def forward(self, images, hidden):
        # the hidden part is removed here, so that no caller can forget it
        visible = (images - center) / spread * (1 - hidden)
        a = self.a(torch.cat([visible, hidden], dim=1))
        b = self.b(a)
        c = self.c(b)
        b = self.up_b(torch.cat([F.interpolate(c, scale_factor=2.0), b], dim=1))
        a = self.up_a(torch.cat([F.interpolate(b, scale_factor=2.0), a], dim=1))
        return self.last(a)


def hidden_loss(output, images, hidden):
    each = F.mse_loss(output, images, reduction="none")
    return (each * hidden).sum() / hidden.sum()


def to_image(output):
    return output.clamp(0, 1)


# the same patches are hidden in every validation, or the numbers could not be compared
valid_hidden = hide(len(valid_x), valid_x.shape[-1], torch.Generator().manual_seed(99))


@torch.no_grad()
def evaluate(net):
    net.eval()
    filled = torch.cat([to_image(net(x, h)) for x, h in zip(valid_x.split(100), valid_hidden.split(100))])
    squared = ((filled - valid_x) ** 2 * valid_hidden).sum() / valid_hidden.sum()
    net.train()
    return squared.item()


baseline = (((mean_image - valid_x) ** 2 * valid_hidden).sum() / valid_hidden.sum()).item()
print(f"filling in the mean image: {baseline:.4f}")

net = Inpainter()
optimizer = torch.optim.Adam(net.parameters(), lr=LR)
steps = EPOCHS * (len(train_x) // BATCH)
# trapezoid: up in 5 % of the steps, level, down to nothing in the last third
schedule = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: min(1.0, (step + 1) / (0.05 * steps), max(0.0, (steps - step) / (0.33 * steps)))
)

for epoch in range(EPOCHS):
    running = []
    for rows in torch.randperm(len(train_x)).split(BATCH):
        if len(rows) < BATCH:
            continue
        images = train_x[rows]
        hidden = hide(len(images), images.shape[-1])
        loss = hidden_loss(net(images, hidden), images, hidden)
        net.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        running.append(loss.detach())
    print(f"{epoch + 1:3d}  train {torch.stack(running).mean():.4f}  valid {evaluate(net):.4f}")

final = evaluate(net)
print(f"of the error of the mean image remain {100 * final / baseline:.0f} %")
