import datetime
import random
import time

import torch
import torch.utils.data
from torch import nn
from torch.utils.data.dataloader import default_collate
from toydata import Shapes
import torch.nn.functional as F


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, x):
        for t in self.transforms:
            x = t(x)
        return x


class RandomResizedCrop:
    def __init__(self, size, scale):
        self.size, self.scale = size, scale

    def __call__(self, x):
        area = random.uniform(*self.scale) ** 0.5
        h, w = (max(1, round(s * area)) for s in x.shape[-2:])
        top, left = random.randint(0, x.shape[-2] - h), random.randint(0, x.shape[-1] - w)
        crop = x[None, :, top:top + h, left:left + w]
        return F.interpolate(crop, (self.size, self.size), mode="bilinear", align_corners=False)[0]


class Resize:
    def __init__(self, size):
        self.size = size

    def __call__(self, x):
        if x.shape[-1] == self.size:
            return x
        return F.interpolate(x[None], (self.size, self.size), mode="bilinear", align_corners=False)[0]


class CenterCrop:
    def __init__(self, size):
        self.size = size

    def __call__(self, x):
        top, left = (x.shape[-2] - self.size) // 2, (x.shape[-1] - self.size) // 2
        return x[:, top:top + self.size, left:left + self.size]


class RandomHorizontalFlip:
    def __init__(self, p=0.5):
        self.p = p

    def __call__(self, x):
        return x.flip(-1) if random.random() < self.p else x


class RandomErasing:
    def __init__(self, p, size):
        self.p, self.size = p, size

    def __call__(self, x):
        if random.random() < self.p:
            x = x.clone()
            top, left = (random.randint(0, s - self.size) for s in x.shape[-2:])
            x[:, top:top + self.size, left:left + self.size] = 0.0
        return x


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (mean, std))

    def __call__(self, x):
        return (x - self.mean) / self.std


class ClassificationPresetTrain:
    def __init__(self, *, crop_size, scale=(0.7, 1.0), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
                 hflip_prob=0.5, random_erase_prob=0.0):
        trans = [RandomResizedCrop(crop_size, scale)]
        if hflip_prob > 0:
            trans.append(RandomHorizontalFlip(hflip_prob))
        trans.append(Normalize(mean, std))
        if random_erase_prob > 0:
            trans.append(RandomErasing(random_erase_prob, 3))
        self.transforms = Compose(trans)

    def __call__(self, img):
        return self.transforms(img)


class ClassificationPresetEval:
    def __init__(self, *, crop_size, resize_size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
        self.transforms = Compose([Resize(resize_size), CenterCrop(crop_size), Normalize(mean, std)])

    def __call__(self, img):
        return self.transforms(img)


class ExponentialMovingAverage(torch.optim.swa_utils.AveragedModel):
    def __init__(self, model, decay, device="cpu"):
        def ema_avg(avg_model_param, model_param, num_averaged):
            return decay * avg_model_param + (1 - decay) * model_param

        super().__init__(model, device, ema_avg, use_buffers=True)


def conv_bn(cin, cout, stride):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU6(inplace=True))


class TinyMobile(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(3, 16, 1),
            nn.Conv2d(16, 16, 3, 2, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6(inplace=True),
            nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6(inplace=True),
            conv_bn(32, 48, 2),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(48 * 16, num_classes))

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args, model_ema=None):
    model.train()
    total, seen, start = 0.0, 0, time.time()
    for i, (image, target) in enumerate(data_loader):
        image, target = image.to(device), target.to(device)
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        if args.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad_norm)
        optimizer.step()
        if model_ema and i % args.model_ema_steps == 0:
            model_ema.update_parameters(model)
            if epoch < args.lr_warmup_epochs:
                model_ema.n_averaged.fill_(0)
        total, seen = total + loss.item() * len(image), seen + len(image)
    print(f"Epoch: [{epoch}]  lr: {optimizer.param_groups[0]['lr']:.5f}  loss: {total / seen:.4f}  "
          f"img/s: {seen / (time.time() - start):.0f}")


def evaluate(model, criterion, data_loader, device, log_suffix=""):
    model.eval()
    right, seen, loss = 0, 0, 0.0
    with torch.inference_mode():
        for image, target in data_loader:
            image, target = image.to(device, non_blocking=True), target.to(device, non_blocking=True)
            output = model(image)
            loss += criterion(output, target).item() * image.shape[0]
            right += (output.argmax(1) == target).sum().item()
            seen += image.shape[0]
    print(f"Test: {log_suffix} Acc@1 {100 * right / seen:.3f} loss {loss / seen:.3f}")
    return right / seen


def set_weight_decay(model, weight_decay, norm_weight_decay):
    norm = [p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    ids = {id(p) for p in norm}
    other = [p for p in model.parameters() if id(p) not in ids]
    return [{"params": other, "weight_decay": weight_decay}, {"params": norm, "weight_decay": norm_weight_decay}]


def main(args):
    random.seed(3)
    torch.manual_seed(3)
    device = torch.device(args.device)
    dataset = Shapes(True, transform=ClassificationPresetTrain(crop_size=16, random_erase_prob=args.random_erase))
    dataset_test = Shapes(False, transform=ClassificationPresetEval(crop_size=16, resize_size=16))
    data_loader = torch.utils.data.DataLoader(
        dataset, batch_size=args.batch_size, sampler=torch.utils.data.RandomSampler(dataset), collate_fn=default_collate)
    data_loader_test = torch.utils.data.DataLoader(
        dataset_test, batch_size=args.batch_size, sampler=torch.utils.data.SequentialSampler(dataset_test))

    model = TinyMobile(num_classes=6).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    optimizer = torch.optim.SGD(set_weight_decay(model, args.weight_decay, 0.0), lr=args.lr, momentum=0.9, nesterov=True)
    main_lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=args.epochs - args.lr_warmup_epochs, eta_min=args.lr_min)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=args.lr_warmup_epochs)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer, schedulers=[warmup, main_lr_scheduler], milestones=[args.lr_warmup_epochs])
    model_ema = ExponentialMovingAverage(model, device=device, decay=args.model_ema_decay)

    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args, model_ema)
        lr_scheduler.step()
        evaluate(model, criterion, data_loader_test, device=device)
        evaluate(model_ema, criterion, data_loader_test, device=device, log_suffix="EMA")
    print(f"Training time {datetime.timedelta(seconds=int(time.time() - start_time))}")


def get_args_parser():
    import argparse

    parser = argparse.ArgumentParser(description="Classification Training", add_help=True)
    parser.add_argument("--device", default="cpu", type=str)
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=12, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--lr-min", default=0.0, type=float)
    parser.add_argument("--wd", "--weight-decay", default=2e-5, type=float, dest="weight_decay")
    parser.add_argument("--label-smoothing", default=0.1, type=float)
    parser.add_argument("--lr-warmup-epochs", default=2, type=int)
    parser.add_argument("--random-erase", default=0.1, type=float)
    parser.add_argument("--clip-grad-norm", default=5.0, type=float)
    parser.add_argument("--model-ema-steps", default=2, type=int)
    parser.add_argument("--model-ema-decay", default=0.9, type=float)
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
