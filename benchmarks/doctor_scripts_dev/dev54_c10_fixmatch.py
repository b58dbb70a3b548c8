"""Few labels and many images without: FixMatch with an averaged network, after kekmodel/FixMatch-pytorch."""
import argparse
import copy
import itertools

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class ModelEMA:
    def __init__(self, model, decay):
        self.ema = copy.deepcopy(model).eval()
        self.decay = decay
        for p in self.ema.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model, step):
        decay = min(self.decay, (1 + step) / (10 + step))
        for e, p in zip(self.ema.parameters(), model.parameters()):
            e.lerp_(p, 1 - decay)
        for e, b in zip(self.ema.buffers(), model.buffers()):
            e.copy_(b)


def make_model(width=16):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 64),
        nn.LeakyReLU(0.1),
        nn.Linear(64, 10),
    )


def shift(images, reach):
    """Each image moved by up to `reach` pixels in each direction."""
    n, _, h, w = images.shape
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    dy, dx = torch.randint(0, 2 * reach + 1, (2, n, 1))
    rows = dy + torch.arange(h)
    cols = dx + torch.arange(w)
    return padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], cols[:, None, :]][:, None]


def weak(images):
    return shift(images, 1)


def strong(images):
    gain = 0.7 + 0.6 * torch.rand(len(images), 1, 1, 1)
    return gain * shift(images, 2) + 0.2 * torch.randn_like(images)


def unlabeled_loss(logits_weak, logits_strong, threshold):
    probability, pseudo = logits_weak.detach().softmax(dim=-1).max(dim=-1)
    mask = (probability >= threshold).float()
    loss = (F.cross_entropy(logits_strong, pseudo, reduction="none") * mask).mean()
    return loss, mask.mean().item()


@torch.no_grad()
def test(model, loader):
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


def split_labeled(labels, per_class):
    labeled = torch.cat([(labels == c).nonzero().flatten()[:per_class] for c in range(10)])
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[labeled] = False
    return labeled, rest.nonzero().flatten()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-labeled", type=int, default=20, help="per class")
    parser.add_argument("--total-steps", type=int, default=250)
    parser.add_argument("--eval-step", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--mu", type=int, default=2)
    parser.add_argument("--lambda-u", type=float, default=1.0)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--lr", type=float, default=0.03)
    args = parser.parse_args()
    torch.manual_seed(5)

    images, labels = draw_digits(1600, seed=0)
    val_images, val_labels = draw_digits(300, seed=1)
    scaled = images.float() / 255
    mean, std = scaled.mean(), scaled.std()
    x, val_x = (scaled - mean) / std, (val_images.float() / 255 - mean) / std
    labeled, unlabeled = split_labeled(labels, args.num_labeled)
    labeled_loader = DataLoader(
        TensorDataset(x[labeled], labels[labeled]), args.batch_size, shuffle=True, drop_last=True
    )
    unlabeled_loader = DataLoader(TensorDataset(x[unlabeled]), args.batch_size * args.mu, shuffle=True, drop_last=True)
    val_loader = DataLoader(TensorDataset(val_x, val_labels), 100)

    model = make_model()
    ema = ModelEMA(model, 0.97)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    forever = lambda loader: itertools.chain.from_iterable(itertools.repeat(loader))
    batches = zip(forever(labeled_loader), forever(unlabeled_loader))
    for step in range(args.total_steps):
        model.train()
        (inputs_x, targets_x), (inputs_u,) = next(batches)
        joint = torch.cat([weak(inputs_x), weak(inputs_u), strong(inputs_u)])
        logits_x, logits_w, logits_s = model(joint).split([len(inputs_x), len(inputs_u), len(inputs_u)])
        loss_x = F.cross_entropy(logits_x, targets_x)
        loss_u, mask = unlabeled_loss(logits_w, logits_s, args.threshold)
        loss = loss_x + args.lambda_u * loss_u
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model, step)
        if (step + 1) % args.eval_step == 0:
            print(f"{step + 1:4d} loss {loss.item():.3f} mask {mask:.2f} val {test(ema.ema, val_loader):.3f}")


if __name__ == "__main__":
    main()
