import argparse
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

MEAN, STD = 0.15, 0.28


def normalize(x):
    return (x.float() / 255 - MEAN) / STD


def weak(x):
    shift = np.random.randint(-1, 2, size=2).tolist()
    return torch.roll(x, shift, dims=(-2, -1))


def strong(x):
    x = weak(x).clone()
    x = (x.float() * np.random.uniform(0.6, 1.3)).clamp(0, 255)
    size = 4
    top, left = np.random.randint(0, x.shape[-2] - size + 1), np.random.randint(0, x.shape[-1] - size + 1)
    x[:, top:top + size, left:left + size] = 127
    return x


class TransformFixMatch:
    def __call__(self, x):
        return normalize(weak(x)), normalize(strong(x))


class SSLDataset(Dataset):
    def __init__(self, images, targets, transform):
        self.images, self.targets, self.transform = images, targets, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(self.images[i]), self.targets[i]


def x_u_split(args, labels):
    label_per_class = args.num_labeled // args.num_classes
    labels = np.array(labels)
    labeled_idx = []
    for i in range(args.num_classes):
        idx = np.where(labels == i)[0]
        labeled_idx.extend(np.random.choice(idx, label_per_class, False))
    labeled_idx = np.array(labeled_idx)
    np.random.shuffle(labeled_idx)
    return labeled_idx, np.arange(len(labels))  # unlabeled: all, the labeled ones too, as in the paper


def get_cosine_schedule_with_warmup(optimizer, warmup, total, num_cycles=7. / 16.):
    def _lr_lambda(step):
        if step < warmup:
            return float(step + 1) / warmup
        return max(0., math.cos(math.pi * num_cycles * (step - warmup) / (total - warmup)))
    return LambdaLR(optimizer, _lr_lambda)


def interleave(x, size):
    return x.reshape([-1, size] + list(x.shape[1:])).transpose(0, 1).reshape([-1] + list(x.shape[1:]))


def de_interleave(x, size):
    return x.reshape([size, -1] + list(x.shape[1:])).transpose(0, 1).reshape([-1] + list(x.shape[1:]))


def create_model():
    def block(i, o):
        return [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o, momentum=0.05), nn.LeakyReLU(0.1), nn.MaxPool2d(2)]
    return nn.Sequential(*block(1, 16), *block(16, 32), nn.Flatten(), nn.Linear(512, 10))


def test(model, loader):
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in loader:
            right += (model(x).argmax(-1) == y).sum().item()
    model.train()
    return right / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description="PyTorch FixMatch Training")
    parser.add_argument("--num-labeled", type=int, default=50)
    parser.add_argument("--num-classes", type=int, default=10)
    parser.add_argument("--total-steps", type=int, default=250)
    parser.add_argument("--eval-step", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--mu", type=int, default=3)
    parser.add_argument("--lambda-u", type=float, default=1.0)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--lr", type=float, default=0.03)
    args = parser.parse_args()
    np.random.seed(5)
    torch.manual_seed(5)
    images, targets = draw_digits(1200, seed=50, noise=0.2)
    labeled_idx, unlabeled_idx = x_u_split(args, targets)
    labeled = DataLoader(SSLDataset(images[labeled_idx], targets[labeled_idx], lambda x: normalize(weak(x))),
                         batch_size=args.batch_size, shuffle=True, drop_last=True)
    unlabeled = DataLoader(SSLDataset(images[unlabeled_idx], targets[unlabeled_idx], TransformFixMatch()),
                           batch_size=args.batch_size * args.mu, shuffle=True, drop_last=True)
    test_images, test_targets = draw_digits(400, seed=51, noise=0.2)
    test_loader = DataLoader(SSLDataset(test_images, test_targets, normalize), batch_size=200)

    model = create_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = get_cosine_schedule_with_warmup(optimizer, 10, args.total_steps)
    labeled_iter, unlabeled_iter = iter(labeled), iter(unlabeled)
    model.train()
    for step in range(args.total_steps):
        try:
            inputs_x, targets_x = next(labeled_iter)
        except StopIteration:
            labeled_iter = iter(labeled)
            inputs_x, targets_x = next(labeled_iter)
        try:
            (inputs_u_w, inputs_u_s), _ = next(unlabeled_iter)
        except StopIteration:
            unlabeled_iter = iter(unlabeled)
            (inputs_u_w, inputs_u_s), _ = next(unlabeled_iter)
        batch_size = inputs_x.shape[0]
        inputs = interleave(torch.cat((inputs_x, inputs_u_w, inputs_u_s)), 2 * args.mu + 1)
        logits = de_interleave(model(inputs), 2 * args.mu + 1)
        logits_x = logits[:batch_size]
        logits_u_w, logits_u_s = logits[batch_size:].chunk(2)
        Lx = F.cross_entropy(logits_x, targets_x, reduction="mean")
        pseudo_label = torch.softmax(logits_u_w.detach(), dim=-1)
        max_probs, targets_u = torch.max(pseudo_label, dim=-1)
        mask = max_probs.ge(args.threshold).float()
        Lu = (F.cross_entropy(logits_u_s, targets_u, reduction="none") * mask).mean()
        loss = Lx + args.lambda_u * Lu
        loss.backward()
        optimizer.step()
        scheduler.step()
        model.zero_grad()
        if (step + 1) % args.eval_step == 0:
            print(f"step {step + 1} Lx {Lx.item():.3f} Lu {Lu.item():.3f} mask {mask.mean().item():.2f} "
                  f"test acc {test(model, test_loader):.4f}")


if __name__ == "__main__":
    main()
