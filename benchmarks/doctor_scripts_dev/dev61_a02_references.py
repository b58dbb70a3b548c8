import argparse
import copy
import math

import torch
from torch import nn
from torch.utils.data.dataloader import default_collate

from toydata import Shapes


class RandomMixup:
    """Mixes a batch with itself, rolled by one; targets become one-hot."""

    def __init__(self, num_classes, p=0.5, alpha=0.2):
        self.num_classes, self.p, self.alpha = num_classes, p, alpha

    def __call__(self, batch, target):
        target = nn.functional.one_hot(target, num_classes=self.num_classes).to(batch.dtype)
        if torch.rand(1).item() >= self.p:
            return batch, target
        lambda_param = float(torch._sample_dirichlet(torch.tensor([self.alpha, self.alpha]))[0])
        batch_rolled = batch.roll(1, 0)
        target_rolled = target.roll(1, 0)
        batch = batch * lambda_param + batch_rolled * (1.0 - lambda_param)
        target = target * lambda_param + target_rolled * (1.0 - lambda_param)
        return batch, target


class ClassificationPresetTrain:
    def __init__(self, hflip_prob=0.5, mean=0.5, std=0.2):
        self.hflip_prob, self.mean, self.std = hflip_prob, mean, std

    def __call__(self, img):
        if torch.rand(1).item() < self.hflip_prob:
            img = img.flip(-1)
        return (img - self.mean) / self.std


class ClassificationPresetEval:
    def __init__(self, mean=0.5, std=0.2):
        self.mean, self.std = mean, std

    def __call__(self, img):
        return (img - self.mean) / self.std


class ExponentialMovingAverage(torch.optim.swa_utils.AveragedModel):
    def __init__(self, model, decay):
        def ema_avg(avg_model_param, model_param, num_averaged):
            return decay * avg_model_param + (1 - decay) * model_param
        super().__init__(model, avg_fn=ema_avg, use_buffers=True)


def set_weight_decay(model, weight_decay, norm_weight_decay=0.0, bias_weight_decay=0.0):
    params = {"other": [], "norm": [], "bias": []}
    decays = {"other": weight_decay, "norm": norm_weight_decay, "bias": bias_weight_decay}
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            if isinstance(module, nn.BatchNorm2d):
                params["norm"].append(p)
            elif name == "bias":
                params["bias"].append(p)
            else:
                params["other"].append(p)
    return [{"params": params[key], "weight_decay": decays[key]} for key in params if params[key]]


def conv_bn(inp, out, stride=1):
    return nn.Sequential(nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.Hardswish())


def build_model(num_classes):
    return nn.Sequential(conv_bn(3, 16), conv_bn(16, 32, 2), conv_bn(32, 48, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, num_classes))


def train_one_epoch(model, criterion, optimizer, scheduler, data_loader, device, epoch, args, model_ema):
    model.train()
    total, seen = 0.0, 0
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad_norm)
        optimizer.step()
        scheduler.step()
        model_ema.update_parameters(model)
        total += loss.item() * len(image)
        seen += len(image)
    lr = optimizer.param_groups[0]["lr"]
    print(f"Epoch: [{epoch}] lr: {lr:.5f} loss: {total / seen:.4f}")


@torch.inference_mode()
def evaluate(model, criterion, data_loader, device, log_suffix=""):
    model.eval()
    total, correct, seen = 0.0, 0, 0
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        output = model(image)
        total += criterion(output, target).item() * len(image)
        correct += (output.argmax(1) == target).sum().item()
        seen += len(image)
    print(f"Test: {log_suffix} Acc@1 {100 * correct / seen:.2f} loss {total / seen:.4f}")
    return correct / seen


def main(args):
    torch.manual_seed(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = Shapes(train=True, transform=ClassificationPresetTrain())
    dataset_test = Shapes(train=False, transform=ClassificationPresetEval())
    num_classes = 6
    mixup = RandomMixup(num_classes, p=args.mixup_prob, alpha=args.mixup_alpha)

    def collate_fn(batch):
        return mixup(*default_collate(batch))
    train_sampler = torch.utils.data.RandomSampler(dataset)
    test_sampler = torch.utils.data.SequentialSampler(dataset_test)
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, sampler=train_sampler, collate_fn=collate_fn, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=args.batch_size, sampler=test_sampler)
    model = build_model(num_classes).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    optimizer = torch.optim.AdamW(set_weight_decay(model, args.weight_decay), lr=args.lr)
    steps, warmup = args.epochs * len(data_loader), args.lr_warmup_epochs * len(data_loader)

    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model_ema = ExponentialMovingAverage(model, decay=args.model_ema_decay)
    best, checkpoint = -1.0, None
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, scheduler, data_loader, device, epoch, args, model_ema)
        evaluate(model, criterion, data_loader_test, device)
        acc = evaluate(model_ema, criterion, data_loader_test, device, log_suffix="EMA")
        if acc > best:
            best, checkpoint = acc, copy.deepcopy(model_ema.module.state_dict())
    print(f"Best EMA accuracy {best:.3f}, {len(checkpoint)} tensors kept")


def get_args_parser():
    parser = argparse.ArgumentParser(description="PyTorch Classification Training", add_help=True)
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("--lr", default=0.005, type=float)
    parser.add_argument("--wd", "--weight-decay", default=0.01, type=float, dest="weight_decay")
    parser.add_argument("--lr-warmup-epochs", default=1, type=int)
    parser.add_argument("--label-smoothing", default=0.05, type=float)
    parser.add_argument("--mixup-prob", default=0.7, type=float)
    parser.add_argument("--mixup-alpha", default=0.2, type=float)
    parser.add_argument("--clip-grad-norm", default=5.0, type=float)
    parser.add_argument("--model-ema-decay", default=0.95, type=float)
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
