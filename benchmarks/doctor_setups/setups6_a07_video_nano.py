"""
nanoVideo: which way does the block move? A small 3D convnet on synthetic clips, minimal and readable.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

# -----------------------------------------------------------------------------
n_clips = 800
n_frame, img = 6, 16
batch_size = 32
learning_rate = 3e-3
weight_decay = 1e-2
betas = (0.9, 0.95)
grad_clip = 1.0
seed = 1337
# -----------------------------------------------------------------------------

MOVES = [(0, 1), (0, -1), (1, 0), (-1, 0)] # right, left, down, up

def render_clips(n, g):
    """ returns uint8 clips (n, T, H, W, 3) and the direction of each """
    labels = torch.randint(0, len(MOVES), (n,), generator=g)
    clips = torch.zeros(n, n_frame, img, img, 3)
    for k in range(n):
        y, x = torch.randint(0, img - 4, (2,), generator=g).tolist()
        color = 0.4 + 0.6 * torch.rand(3, generator=g)
        frame = torch.zeros(img, img, 3)
        frame[y:y + 4, x:x + 4] = color
        dy, dx = MOVES[labels[k]]
        for t in range(n_frame):
            clips[k, t] = torch.roll(frame, (2 * t * dy, 2 * t * dx), dims=(0, 1)) # wraps around
    clips += 0.05 * torch.randn(clips.shape, generator=g)
    return (clips.clamp(0, 1) * 255).to(torch.uint8), labels

class ClipDataset(Dataset):

    def __init__(self, clips, labels):
        self.clips, self.labels = clips, labels

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, i):
        x = self.clips[i].float() / 255.0 # (T, H, W, C)
        x = (x - 0.06) / 0.18
        x = x.permute(3, 0, 1, 2) # (C, T, H, W)
        return x, self.labels[i]

@dataclass
class VideoConfig:
    n_channel: int = 16
    n_class: int = 4
    dropout: float = 0.1

class VideoNet(nn.Module):

    def __init__(self, config):
        super().__init__()
        c = config.n_channel
        self.conv1 = nn.Conv3d(3, c, (3, 5, 5), stride=(1, 2, 2), padding=(0, 2, 2), bias=False)
        self.bn1 = nn.BatchNorm3d(c)
        self.conv2 = nn.Conv3d(c, 2 * c, 3, padding=(0, 1, 1), bias=False)
        self.bn2 = nn.BatchNorm3d(2 * c)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * c, config.n_class)

    def encode(self, x):
        x = F.gelu(self.bn1(self.conv1(x))) # (B, c, T-2, H/2, W/2)
        x = F.gelu(self.bn2(self.conv2(x))) # (B, 2c, T-4, H/2, W/2)
        return x.mean(dim=(2, 3, 4)) # (B, 2c)

    def forward(self, x):
        return self.head(self.drop(self.encode(x)))

    @torch.no_grad()
    def predict(self, x):
        return self(x).argmax(dim=-1)

    def configure_optimizers(self):
        # matrices and kernels are decayed, biases and norms are not
        decay = [p for p in self.parameters() if p.dim() >= 2]
        nodecay = [p for p in self.parameters() if p.dim() < 2]
        groups = [{'params': decay, 'weight_decay': weight_decay}, {'params': nodecay, 'weight_decay': 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)

def train_iter(model, batch, optimizer, loss):
    model.train()
    X, Y = batch
    logits = model(X)
    value = loss(logits, Y)
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    return value

def setup():
    torch.manual_seed(seed)
    clips, labels = render_clips(n_clips, torch.Generator().manual_seed(seed))
    perm = torch.randperm(n_clips)
    n_train = int(0.8 * n_clips)
    n_val = n_clips - n_train
    train_ix, val_ix = perm[:n_train], perm[-n_val:]
    train_data = ClipDataset(clips[train_ix], labels[train_ix])
    val_data = ClipDataset(clips[val_ix], labels[val_ix])
    train = DataLoader(train_data, batch_size=batch_size, shuffle=True, drop_last=True)
    val = DataLoader(val_data, batch_size=batch_size)
    model = VideoNet(VideoConfig())
    return dict(model=model, train=train, val=val, loss=F.cross_entropy,
                optimizer=model.configure_optimizers(), step=train_iter, task='classify')
