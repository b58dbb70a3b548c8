"""Classification reference training: repeated augmentation, mixup or cutmix, label smoothing, warmup + cosine, EMA."""

import argparse
import datetime
import math
import os
import tempfile
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler, default_collate

from toydata import Digits


class RASampler(Sampler):
    """Each sample is shown `repetitions` times in a row (with other augmentations), and an epoch takes a part of all."""

    def __init__(self, dataset, shuffle=True, seed=0, repetitions=3):
        self.dataset, self.shuffle, self.seed, self.repetitions = dataset, shuffle, seed, repetitions
        self.epoch = 0
        self.num_selected_samples = len(self.dataset)

    def __iter__(self):
        if self.shuffle:
            g = torch.Generator()
            g.manual_seed(self.seed + self.epoch)
            indices = torch.randperm(len(self.dataset), generator=g).tolist()
        else:
            indices = list(range(len(self.dataset)))
        indices = [element for element in indices for _ in range(self.repetitions)]
        return iter(indices[: self.num_selected_samples])

    def __len__(self):
        return self.num_selected_samples

    def set_epoch(self, epoch):
        self.epoch = epoch


def random_mixup(batch, target, alpha):
    lambda_param = float(torch._sample_dirichlet(torch.tensor([alpha, alpha]))[0])
    half = len(batch) // 2
    batch_rolled, target_rolled = batch.roll(half, 0), target.roll(half, 0)
    batch = batch.mul(lambda_param).add(batch_rolled.mul(1.0 - lambda_param))
    target = target.mul(lambda_param).add(target_rolled.mul(1.0 - lambda_param))
    return batch, target


def random_cutmix(batch, target, alpha):
    lambda_param = float(torch._sample_dirichlet(torch.tensor([alpha, alpha]))[0])
    height, width = batch.shape[-2:]
    cx, cy = int(torch.randint(width, (1,))), int(torch.randint(height, (1,)))
    r = 0.5 * math.sqrt(1.0 - lambda_param)
    x1, x2 = max(cx - int(r * width), 0), min(cx + int(r * width), width)
    y1, y2 = max(cy - int(r * height), 0), min(cy + int(r * height), height)
    half = len(batch) // 2
    batch, target_rolled = batch.clone(), target.roll(half, 0)
    batch[:, :, y1:y2, x1:x2] = batch.roll(half, 0)[:, :, y1:y2, x1:x2]
    lambda_param = 1.0 - (x2 - x1) * (y2 - y1) / (width * height)
    target = target.mul(lambda_param).add(target_rolled.mul(1.0 - lambda_param))
    return batch, target


def get_collate(num_classes, mixup_alpha, cutmix_alpha):
    def collate_fn(samples):
        batch, target = default_collate(samples)
        target = nn.functional.one_hot(target, num_classes).to(batch.dtype)
        if torch.rand(()) < 0.5:
            return random_mixup(batch, target, mixup_alpha)
        return random_cutmix(batch, target, cutmix_alpha)

    return collate_fn


def preset_train(image):
    image = image.float() / 255
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    return (image.roll((dy, dx), (1, 2)) - 0.2) / 0.32


def preset_eval(image):
    return (image.float() / 255 - 0.2) / 0.32


class ConvNormActivation(nn.Sequential):
    def __init__(self, cin, cout, stride=1):
        super().__init__(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


def build_model(num_classes):
    return nn.Sequential(
        ConvNormActivation(1, 16), ConvNormActivation(16, 32, 2), ConvNormActivation(32, 64, 2),
        nn.Flatten(), nn.Linear(64 * 16, 64), nn.ReLU(), nn.Linear(64, num_classes),
    )


class ExponentialMovingAverage(torch.optim.swa_utils.AveragedModel):
    def __init__(self, model, decay):
        def ema_avg(avg_param, param, num_averaged):
            return decay * avg_param + (1 - decay) * param

        super().__init__(model, None, ema_avg, use_buffers=True)


def set_weight_decay(model, weight_decay, norm_weight_decay):
    """Two groups: norm layers get a decay of their own."""
    norm_params, other_params = [], []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            norm_params.extend(p for p in module.parameters() if p.requires_grad)
        elif not list(module.children()):
            other_params.extend(p for p in module.parameters() if p.requires_grad)
    return [
        {"params": norm_params, "weight_decay": norm_weight_decay},
        {"params": other_params, "weight_decay": weight_decay},
    ]


def train_one_epoch(model, criterion, optimizer, lr_scheduler, loader, epoch, args, model_ema):
    model.train()
    total, start = 0.0, time.time()
    for i, (image, target) in enumerate(loader):
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        if args.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad_norm)
        optimizer.step()
        lr_scheduler.step()
        total += loss.item()
        if i % args.model_ema_steps == 0:
            model_ema.update_parameters(model)
            if epoch < args.lr_warmup_epochs:
                model_ema.n_averaged.fill_(0)
    print(f"Epoch [{epoch}] loss {total / len(loader):.4f} lr {optimizer.param_groups[0]['lr']:.4f} {time.time() - start:.1f}s")


def evaluate(model, criterion, loader, log_suffix=""):
    model.eval()
    loss, correct, count = 0.0, 0, 0
    with torch.inference_mode():
        for image, target in loader:
            output = model(image)
            loss += criterion(output, target).item() * len(image)
            correct += (output.argmax(1) == target).sum().item()
            count += len(image)
    print(f"Test: {log_suffix} Acc@1 {100 * correct / count:.2f} loss {loss / count:.4f}")
    return correct / count


def main(args):
    torch.manual_seed(args.seed)
    dataset = Digits(train=True, count=700, noise=0.3, transform=preset_train)
    dataset_test = Digits(train=False, noise=0.3, transform=preset_eval)
    train_sampler = RASampler(dataset, shuffle=True, repetitions=args.ra_reps)
    data_loader = DataLoader(
        dataset, batch_size=args.batch_size, sampler=train_sampler,
        collate_fn=get_collate(10, args.mixup_alpha, args.cutmix_alpha), drop_last=True,
    )
    data_loader_test = DataLoader(dataset_test, batch_size=100)

    model = build_model(10)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    parameters = set_weight_decay(model, args.weight_decay, args.norm_weight_decay)
    optimizer = torch.optim.SGD(parameters, lr=args.lr, momentum=args.momentum, nesterov=True)

    iters = len(data_loader)
    warmup_iters = args.lr_warmup_epochs * iters
    main_lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs * iters - warmup_iters)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=args.lr_warmup_decay, total_iters=warmup_iters)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, main_lr_scheduler], milestones=[warmup_iters])

    adjust = args.batch_size * args.model_ema_steps / args.epochs
    alpha = min(1.0, (1.0 - args.model_ema_decay) * adjust)
    model_ema = ExponentialMovingAverage(model, decay=1.0 - alpha)

    start_time = time.time()
    for epoch in range(args.epochs):
        train_sampler.set_epoch(epoch)
        train_one_epoch(model, criterion, optimizer, lr_scheduler, data_loader, epoch, args, model_ema)
        evaluate(model, criterion, data_loader_test)
        evaluate(model_ema, criterion, data_loader_test, log_suffix="EMA")
        checkpoint = {"model": model.state_dict(), "model_ema": model_ema.state_dict(), "epoch": epoch}
        torch.save(checkpoint, os.path.join(args.output_dir, "checkpoint.pth"))
    print("Training time", datetime.timedelta(seconds=int(time.time() - start_time)))


def get_args_parser():
    parser = argparse.ArgumentParser(description="Classification training")
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=24, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--momentum", default=0.9, type=float)
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    parser.add_argument("--norm-weight-decay", default=0.0, type=float)
    parser.add_argument("--label-smoothing", default=0.1, type=float)
    parser.add_argument("--mixup-alpha", default=0.2, type=float)
    parser.add_argument("--cutmix-alpha", default=1.0, type=float)
    parser.add_argument("--lr-warmup-epochs", default=2, type=int)
    parser.add_argument("--lr-warmup-decay", default=0.01, type=float)
    parser.add_argument("--ra-reps", default=3, type=int)
    parser.add_argument("--clip-grad-norm", default=None, type=float)
    parser.add_argument("--model-ema-steps", default=4, type=int)
    parser.add_argument("--model-ema-decay", default=0.985, type=float)
    parser.add_argument("--output-dir", default=tempfile.mkdtemp())
    parser.add_argument("--seed", default=0, type=int)
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
