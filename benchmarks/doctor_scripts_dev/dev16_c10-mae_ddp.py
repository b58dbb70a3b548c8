# Masked autoencoder pre-training. One process:        python c10-mae_ddp.py
#                                  several processes:  torchrun --nproc_per_node=2 c10-mae_ddp.py
import argparse
import math
import os
import sys

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from sklearn.linear_model import LogisticRegression
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from toydata import draw_digits


def get_args_parser():
    parser = argparse.ArgumentParser("MAE pre-training", add_help=False)
    parser.add_argument("--batch_size", default=64, type=int, help="per process")
    parser.add_argument("--epochs", default=15, type=int)
    parser.add_argument("--accum_iter", default=1, type=int)
    parser.add_argument("--mask_ratio", default=0.5, type=float)
    parser.add_argument("--lr", default=3e-3, type=float)
    parser.add_argument("--min_lr", default=1e-5, type=float)
    parser.add_argument("--warmup_epochs", default=2, type=int)
    parser.add_argument("--weight_decay", default=0.05, type=float)
    parser.add_argument("--seed", default=0, type=int)
    return parser


def init_distributed_mode(args):
    args.distributed = int(os.environ.get("WORLD_SIZE", 1)) > 1
    if args.distributed:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    args.rank = dist.get_rank() if args.distributed else 0
    args.world_size = dist.get_world_size() if args.distributed else 1


def all_reduce_mean(total, count, args):
    t = torch.tensor([total, count], dtype=torch.float64)
    if args.distributed:
        dist.all_reduce(t)
    return (t[0] / t[1]).item()


def sincos_2d(dim, grid):
    def one(positions):
        omega = 1.0 / 100 ** (np.arange(dim // 4) / (dim / 4.0))
        out = positions.reshape(-1)[:, None] * omega[None]
        return np.concatenate([np.sin(out), np.cos(out)], 1)

    h, w = np.meshgrid(np.arange(grid, dtype=float), np.arange(grid, dtype=float), indexing="ij")
    table = np.concatenate([one(h), one(w)], 1)
    return torch.from_numpy(np.concatenate([np.zeros((1, dim)), table])).float()[None]


class Block(nn.Module):
    def __init__(self, dim, heads, mlp_ratio=2):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class MaskedAutoencoder(nn.Module):
    def __init__(self, img=16, patch=4, dim=64, depth=2, heads=4, dec_dim=32, dec_depth=1):
        super().__init__()
        self.patch, self.grid = patch, img // patch
        self.patch_embed = nn.Conv2d(1, dim, patch, patch)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(sincos_2d(dim, self.grid), requires_grad=False)  # fixed
        self.blocks, self.norm = nn.ModuleList([Block(dim, heads) for _ in range(depth)]), nn.LayerNorm(dim)
        self.decoder_embed = nn.Linear(dim, dec_dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, dec_dim))
        self.decoder_pos_embed = nn.Parameter(sincos_2d(dec_dim, self.grid), requires_grad=False)
        self.decoder_blocks, self.decoder_norm = nn.ModuleList([Block(dec_dim, heads) for _ in range(dec_depth)]), nn.LayerNorm(dec_dim)
        self.decoder_pred = nn.Linear(dec_dim, patch**2)

    def patchify(self, imgs):
        n, p, g = len(imgs), self.patch, self.grid
        return imgs.reshape(n, g, p, g, p).permute(0, 1, 3, 2, 4).reshape(n, g * g, p * p)

    def encode(self, imgs, keep=None):
        x = self.patch_embed(imgs).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        if keep is not None:
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1), x], 1)
        for blk in self.blocks:
            x = blk(x)
        return self.norm(x)

    def forward(self, imgs, mask_ratio, noise=None):
        n, length = len(imgs), self.grid**2
        noise = torch.rand(n, length, device=imgs.device) if noise is None else noise
        shuffle = noise.argsort(1)
        restore = shuffle.argsort(1)
        kept = int(length * (1 - mask_ratio))
        x = self.decoder_embed(self.encode(imgs, shuffle[:, :kept]))
        tokens = torch.cat([x[:, 1:], self.mask_token.expand(n, length - kept, -1)], 1)
        tokens = tokens.gather(1, restore[..., None].expand(-1, -1, tokens.shape[-1]))
        x = torch.cat([x[:, :1], tokens], 1) + self.decoder_pos_embed
        for blk in self.decoder_blocks:
            x = blk(x)
        pred = self.decoder_pred(self.decoder_norm(x))[:, 1:]
        mask = (restore >= kept).float()
        loss = ((pred - self.patchify(imgs)) ** 2).mean(-1)
        return (loss * mask).sum() / mask.sum(), pred, mask


def adjust_learning_rate(optimizer, epoch, args):
    """epoch may be a fraction: called for every iteration"""
    if epoch < args.warmup_epochs:
        lr = args.lr * (0.1 + 0.9 * epoch / args.warmup_epochs)
    else:
        progress = (epoch - args.warmup_epochs) / (args.epochs - args.warmup_epochs)
        lr = args.min_lr + (args.lr - args.min_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def train_one_epoch(model, loader, optimizer, epoch, args):
    model.train()
    optimizer.zero_grad()
    total, count = 0.0, 0
    for it, (samples,) in enumerate(loader):
        if it % args.accum_iter == 0:
            lr = adjust_learning_rate(optimizer, it / len(loader) + epoch, args)
        loss, _, _ = model(samples, args.mask_ratio)
        if not math.isfinite(loss.item()):
            sys.exit(f"Loss is {loss.item()}, stopping training")
        (loss / args.accum_iter).backward()
        if (it + 1) % args.accum_iter == 0:
            optimizer.step()
            optimizer.zero_grad()
        total, count = total + loss.item() * len(samples), count + len(samples)
    return all_reduce_mean(total, count, args), lr


@torch.no_grad()
def evaluate(model, images, args):
    model.eval()
    noise = torch.rand(len(images), model.grid**2, generator=torch.Generator().manual_seed(99))  # same masks each time
    loss, pred, mask = model(images, args.mask_ratio, noise)
    target = model.patchify(images)
    variance = (((target - target.mean(0)) ** 2).mean(-1) * mask).sum() / mask.sum()
    return loss.item(), (1 - loss / variance).item()


def main(args):
    init_distributed_mode(args)
    torch.manual_seed(args.seed + args.rank)
    images, labels = draw_digits(1920, seed=0, noise=0.08, shift=1)
    mean, std = images.float().mean(), images.float().std()
    prepare = lambda x: (x.float() - mean) / std
    dataset = TensorDataset(prepare(images))
    sampler = DistributedSampler(dataset, num_replicas=args.world_size, rank=args.rank, shuffle=True, seed=args.seed)
    loader = DataLoader(dataset, batch_size=args.batch_size, sampler=sampler, drop_last=True)
    val_images, val_labels = draw_digits(400, seed=1, noise=0.08, shift=1)

    model_without_ddp = MaskedAutoencoder()
    model = DistributedDataParallel(model_without_ddp) if args.distributed else model_without_ddp
    params = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in params if p.ndim != 1], "weight_decay": args.weight_decay},
              {"params": [p for p in params if p.ndim == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95))

    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        train_loss, lr = train_one_epoch(model, loader, optimizer, epoch, args)
        if args.rank == 0 and (epoch % 5 == 4 or epoch == 0):
            val_loss, explained = evaluate(model_without_ddp, prepare(val_images), args)
            print(f"epoch {epoch} lr {lr:.2e} train {train_loss:.4f} validation {val_loss:.4f} (explains {explained:.1%} of the masked pixels' variance)")

    if args.rank == 0:  # linear probe on frozen features
        model_without_ddp.eval()
        with torch.no_grad():
            features = lambda x: model_without_ddp.encode(prepare(x))[:, 1:].flatten(1).numpy()
            probe = LogisticRegression(max_iter=300, C=0.1).fit(features(images[:500]), labels[:500].numpy())
            print(f"linear probe with 500 labels: {probe.score(features(val_images), val_labels.numpy()):.3f} on validation images")
    if args.distributed:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(argparse.ArgumentParser("MAE", parents=[get_args_parser()]).parse_args())
