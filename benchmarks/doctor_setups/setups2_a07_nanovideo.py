"""nanoVideo: which way does the ball move? A tiny 3D conv net, in as few lines as possible."""

import inspect
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

# -----------------------------------------------------------------------------
# data
n_clips = 1200
n_frames, size = 6, 16
directions = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]]) # right, left, down, up (dy, dx)
# optimization
batch_size = 32
gradient_accumulation_steps = 2 # micro-batches that each batch is split into
learning_rate = 3e-3
min_lr = 3e-4
warmup_iters = 20
lr_decay_iters = 800
weight_decay = 1e-2
beta1, beta2 = 0.9, 0.99
grad_clip = 1.0
# -----------------------------------------------------------------------------

def make_clips(n, seed):
    """ balls that move 2 pixels a frame and come back at the other side; uint8 (n, T, H, W, C), as a video reader gives them """
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 4, (n,), generator=g)
    pos = torch.randint(0, size, (n, 1, 2), generator=g) + 2 * torch.arange(n_frames)[None, :, None] * directions[y][:, None, :]
    grid = torch.arange(size)
    d = (grid[None, None, None, :] - pos[..., None]) % size # (n, T, 2, size)
    d = torch.minimum(d, size - d) # distance on the ring
    ball = (d[:, :, 0, :, None] ** 2 + d[:, :, 1, None, :] ** 2 <= 5).float() # (n, T, H, W)
    color = 0.4 + 0.6 * torch.rand((n, 1, 1, 1, 3), generator=g)
    clips = ball[..., None] * color + 0.05 * torch.rand((n, n_frames, size, size, 3), generator=g)
    return (clips.clamp(0, 1) * 255).to(torch.uint8), y

class Block(nn.Module):

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.conv = nn.Conv3d(n_in, n_out, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn = nn.BatchNorm3d(n_out)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))

class VideoNet(nn.Module):

    def __init__(self, n_class=4, n_embd=32):
        super().__init__()
        self.block1 = Block(3, n_embd // 2, stride=(1, 2, 2))
        self.block2 = Block(n_embd // 2, n_embd, stride=1)
        self.lm_head = nn.Linear(n_embd, n_class)

    def forward(self, x):
        x = self.block2(self.block1(x)) # (B, n_embd, T, H/2, W/2)
        return self.lm_head(x.mean(dim=(2, 3, 4)))

    def configure_optimizers(self):
        # matrices decay, biases and norms don't
        decay = [p for p in self.parameters() if p.dim() >= 2]
        nodecay = [p for p in self.parameters() if p.dim() < 2]
        groups = [{'params': decay, 'weight_decay': weight_decay}, {'params': nodecay, 'weight_decay': 0.0}]
        extra = dict(foreach=True) if 'foreach' in inspect.signature(torch.optim.AdamW).parameters else {}
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(beta1, beta2), **extra)

# learning rate decay scheduler (cosine with warmup)
def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    ratio = min((it - warmup_iters) / (lr_decay_iters - warmup_iters), 1.0)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)

def train_step(model, batch, optimizer, loss_fn):
    for group in optimizer.param_groups:
        group['iter_num'] = group.get('iter_num', -1) + 1
        group['lr'] = get_lr(group['iter_num'])
    x, y = batch
    total = 0.0
    optimizer.zero_grad(set_to_none=True)
    for xb, yb in zip(x.chunk(gradient_accumulation_steps), y.chunk(gradient_accumulation_steps)):
        loss = loss_fn(model(xb), yb) / gradient_accumulation_steps
        loss.backward()
        total = total + loss.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    return total

def setup():
    torch.manual_seed(1337)
    X, Y = make_clips(n_clips, seed=1337)
    X = X.permute(0, 4, 1, 2, 3).float() / 255 # (N, T, H, W, C) -> (N, C, T, H, W)
    X = (X - 0.1) / 0.2
    n = int(0.8 * len(X)) # first 80% will be train, rest val
    Xtr, Ytr = X[:n], Y[:n]
    Xval, Yval = X[n:], Y[n:]
    train = DataLoader(TensorDataset(Xtr, Ytr), batch_size=batch_size, shuffle=True, drop_last=True)
    val = DataLoader(TensorDataset(Xval, Yval), batch_size=80)
    model = VideoNet()
    return dict(model=model, train=train, val=val, loss=F.cross_entropy, optimizer=model.configure_optimizers(), step=train_step)
