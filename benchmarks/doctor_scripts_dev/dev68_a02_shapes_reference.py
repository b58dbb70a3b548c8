import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.utils.data.dataloader import default_collate

SHAPES = ["triangle", "circle", "square", "cross", "ring"]


def draw_shape(name, rng, size=24):
    yy, xx = np.mgrid[0:size, 0:size]
    r, (cy, cx), a = rng.uniform(5.0, 8.0), rng.uniform(9, 15, 2), rng.uniform(0, 2 * np.pi)
    u = np.cos(a) * (xx - cx) + np.sin(a) * (yy - cy)
    v = np.cos(a) * (yy - cy) - np.sin(a) * (xx - cx)
    rho, far, near = np.hypot(u, v), np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
    mask = {
        "triangle": (v >= -r / 2) & (abs(u) <= (r - v) / np.sqrt(3)),
        "circle": rho <= 0.8 * r,
        "square": far <= 0.7 * r,
        "cross": (near <= 0.3 * r) & (far <= r),
        "ring": (rho <= r) & (rho >= 0.55 * r),
    }[name]
    bg = rng.uniform(0, 255, 3)
    fg = (bg + rng.uniform(70, 185, 3)) % 256
    img = np.where(mask[..., None], fg, bg) + rng.normal(0, 8, (size, size, 3))
    return img.clip(0, 255).astype(np.uint8)


def find_classes(names):
    classes = sorted(set(names))
    return classes, {name: i for i, name in enumerate(classes)}


class ShapesDataset(torch.utils.data.Dataset):
    def __init__(self, n, seed, transform):
        rng = np.random.default_rng(seed)
        names = [str(s) for s in rng.choice(SHAPES, n)]
        self.classes, self.class_to_idx = find_classes(names)
        self.samples = [(draw_shape(name, rng), self.class_to_idx[name]) for name in names]
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        img, target = self.samples[index]
        img = torch.from_numpy(img).permute(2, 0, 1).float() / 255
        return (self.transform(img) - 0.5) / 0.3, target


class ClassificationPresetTrain:
    def __init__(self, crop_size, padding=3):
        self.crop_size, self.padding = crop_size, padding

    def __call__(self, img):
        img = F.pad(img, [self.padding] * 4, mode="reflect")
        top, left = torch.randint(0, img.shape[-1] - self.crop_size + 1, (2,)).tolist()
        img = img[:, top:top + self.crop_size, left:left + self.crop_size]
        return img.flip(-1) if torch.rand(1) < 0.5 else img


class ClassificationPresetEval:
    def __init__(self, crop_size, resize_size):
        self.crop_size, self.resize_size = crop_size, resize_size

    def __call__(self, img):
        img = F.interpolate(img[None], size=self.resize_size, mode="bilinear", antialias=True)[0]
        o = (self.resize_size - self.crop_size) // 2
        return img[:, o:o + self.crop_size, o:o + self.crop_size]


class RandomMixup:
    def __init__(self, num_classes, alpha):
        self.num_classes, self.alpha = num_classes, alpha

    def __call__(self, batch, target):
        target = F.one_hot(target, self.num_classes).to(batch.dtype)
        batch_rolled = batch.roll(1, 0)
        target_rolled = target.roll(1, 0)
        lambda_param = float(np.random.beta(self.alpha, self.alpha))
        batch = batch.mul(lambda_param).add(batch_rolled.mul(1.0 - lambda_param))
        target = target.mul(lambda_param).add(target_rolled.mul(1.0 - lambda_param))
        return batch, target


class Block(nn.Module):
    def __init__(self, inplanes, planes):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + x)


class ResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = Block(16, 32)
        self.layer2 = Block(32, 64)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer2(self.layer1(x))
        return self.fc(x.mean(dim=(2, 3)))


class ExponentialMovingAverage(torch.optim.swa_utils.AveragedModel):
    def __init__(self, model, decay):
        def ema_avg(avg_model_param, model_param, num_averaged):
            return decay * avg_model_param + (1 - decay) * model_param

        super().__init__(model, "cpu", ema_avg, use_buffers=True)


def set_weight_decay(model, weight_decay):
    norm_params, other_params = [], []
    for module in model.modules():
        group = norm_params if isinstance(module, nn.BatchNorm2d) else other_params
        group.extend(p for p in module.parameters(recurse=False) if p.requires_grad)
    return [{"params": norm_params, "weight_decay": 0.0}, {"params": other_params, "weight_decay": weight_decay}]


def train_one_epoch(model, criterion, optimizer, data_loader, epoch, args, model_ema):
    model.train()
    total_loss = 0.0
    for image, target in data_loader:
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model_ema.update_parameters(model)
        if epoch < args.lr_warmup_epochs:
            # Reset ema buffer to keep copying weights during warmup period
            model_ema.n_averaged.fill_(0)
        total_loss += loss.item()
    print(f"Epoch: [{epoch}] lr {optimizer.param_groups[0]['lr']:.4f} loss {total_loss / len(data_loader):.4f}")


def evaluate(model, criterion, data_loader, log_suffix=""):
    model.eval()
    loss_sum, correct, count = 0.0, 0, 0
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)
            loss_sum += criterion(output, target).item() * target.shape[0]
            correct += (output.argmax(1) == target).sum().item()
            count += target.shape[0]
    print(f"Test: {log_suffix} Acc@1 {100 * correct / count:.2f} Loss {loss_sum / count:.4f}")


def main(args):
    torch.manual_seed(0)
    np.random.seed(0)
    dataset = ShapesDataset(2048, 10, ClassificationPresetTrain(args.crop_size))
    dataset_test = ShapesDataset(800, 11, ClassificationPresetEval(args.crop_size, args.val_resize_size))
    mixup = RandomMixup(len(dataset.classes), args.mixup_alpha)
    data_loader = torch.utils.data.DataLoader(
        dataset, batch_size=args.batch_size, shuffle=True, drop_last=True,
        collate_fn=lambda batch: mixup(*default_collate(batch)))
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=args.batch_size)

    model = ResNet(len(dataset.classes))
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    optimizer = torch.optim.SGD(set_weight_decay(model, args.weight_decay), lr=args.lr, momentum=0.9)
    main_lr_scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs - args.lr_warmup_epochs)
    warmup_lr_scheduler = LinearLR(optimizer, start_factor=0.1, total_iters=args.lr_warmup_epochs)
    lr_scheduler = SequentialLR(optimizer, [warmup_lr_scheduler, main_lr_scheduler], milestones=[args.lr_warmup_epochs])
    model_ema = ExponentialMovingAverage(model, decay=args.model_ema_decay)

    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, epoch, args, model_ema)
        lr_scheduler.step()
        evaluate(model, criterion, data_loader_test)
        evaluate(model_ema, criterion, data_loader_test, log_suffix="EMA")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="PyTorch Classification Training")
    parser.add_argument("--batch-size", default=64, type=int)
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("--lr", default=0.1, type=float, help="initial learning rate")
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    parser.add_argument("--label-smoothing", default=0.1, type=float)
    parser.add_argument("--mixup-alpha", default=0.2, type=float)
    parser.add_argument("--lr-warmup-epochs", default=2, type=int)
    parser.add_argument("--model-ema-decay", default=0.95, type=float)
    parser.add_argument("--val-resize-size", default=24, type=int)
    parser.add_argument("--crop-size", default=24, type=int)
    main(parser.parse_args())
