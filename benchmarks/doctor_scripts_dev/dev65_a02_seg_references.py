import argparse
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from toydata import Shapes

class Compose:
    def __init__(self, transforms):
        self.transforms = transforms
    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target

class RandomHorizontalFlip:
    def __init__(self, flip_prob):
        self.flip_prob = flip_prob
    def __call__(self, image, target):
        if torch.rand(1).item() < self.flip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return image, target

class RandomCrop:
    def __init__(self, size, padding):
        self.size, self.padding = size, padding
    def __call__(self, image, target):
        image = F.pad(image, (self.padding,) * 4, value=0.5)
        target = F.pad(target, (self.padding,) * 4, value=255)
        top, left = torch.randint(0, 2 * self.padding + 1, (2,)).tolist()
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        return image[window], target[window]

class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    def __call__(self, image, target):
        return (image - self.mean) / self.std, target

def get_transform(train, args):
    normalize = Normalize(mean=(0.5, 0.45, 0.5), std=(0.2, 0.2, 0.2))
    if train:
        return Compose([RandomHorizontalFlip(0.5), RandomCrop(args.size, 2), normalize])
    return Compose([normalize])

class ShapesSegmentation(torch.utils.data.Dataset):
    def __init__(self, train, size, transforms):
        self.shapes, self.transforms = Shapes(train=train, size=size), transforms
    def __len__(self):
        return len(self.shapes)
    def __getitem__(self, idx):
        return self.transforms(self.shapes.images[idx], self.shapes.masks[idx])

def conv_bn(inp, out, stride=1):
    return nn.Sequential(nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))

class FCN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = nn.Sequential(OrderedDict(
            layer1=conv_bn(3, 24), layer2=conv_bn(24, 32, 2), layer3=conv_bn(32, 48, 2), layer4=conv_bn(48, 48)))
        self.classifier = nn.Sequential(conv_bn(48 + 24, 32), nn.Dropout(0.1), nn.Conv2d(32, num_classes, 1))
        self.aux_classifier = nn.Sequential(conv_bn(32, 16), nn.Conv2d(16, num_classes, 1))
    def forward(self, x):
        size = x.shape[-2:]
        low = self.backbone.layer1(x)
        mid = self.backbone.layer2(low)
        top = self.backbone.layer4(self.backbone.layer3(mid))
        top = F.interpolate(top, size=size, mode="bilinear", align_corners=False)
        aux = F.interpolate(self.aux_classifier(mid), size=size, mode="bilinear", align_corners=False)
        return OrderedDict(out=self.classifier(torch.cat([top, low], 1)), aux=aux)

class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros((num_classes, num_classes), dtype=torch.int64)
    def update(self, a, b):
        k = (a >= 0) & (a < self.num_classes)
        inds = self.num_classes * a[k] + b[k]
        self.mat += torch.bincount(inds, minlength=self.num_classes**2).reshape(self.num_classes, self.num_classes)
    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
        return acc_global, iu

def get_class_weights(dataset, num_classes):
    pixels = torch.stack(dataset.shapes.masks).flatten()
    freq = torch.bincount(pixels, minlength=num_classes).float() / pixels.numel()
    weights = 1.0 / freq
    return weights / weights.mean()

def train_one_epoch(model, criterion, optimizer, data_loader, lr_scheduler, device, epoch, print_freq):
    model.train()
    for i, (image, target) in enumerate(data_loader):
        image, target = image.to(device), target.to(device)
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        if i % print_freq == 0:
            print(f"Epoch: [{epoch}] [{i}/{len(data_loader)}] lr {optimizer.param_groups[0]['lr']:.5f} loss {loss.item():.4f}")

def evaluate(model, data_loader, device, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image.to(device))["out"]
            confmat.update(target.flatten(), output.argmax(1).flatten().cpu())
    return confmat.compute()

def main(args):
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    num_classes = 4
    dataset = ShapesSegmentation(True, args.size, get_transform(True, args))
    dataset_test = ShapesSegmentation(False, args.size, get_transform(False, args))
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=40)

    model = FCN(num_classes).to(device)
    class_weights = get_class_weights(dataset, num_classes).to(device)
    def criterion(inputs, target):
        losses = {k: F.cross_entropy(v, target, weight=class_weights, ignore_index=255) for k, v in inputs.items()}
        return losses["out"] + 0.4 * losses["aux"]

    params_to_optimize = [
        {"params": model.backbone.parameters()},
        {"params": model.classifier.parameters()},
        {"params": model.aux_classifier.parameters(), "lr": args.lr * 2},
    ]
    optimizer = torch.optim.SGD(params_to_optimize, lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    total_iters = len(data_loader) * args.epochs
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: max(0.0, 1 - x / total_iters) ** 0.9)

    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, lr_scheduler, device, epoch, args.print_freq)
        acc_global, iu = evaluate(model, data_loader_test, device, num_classes)
        print(f"global correct: {acc_global:.3f}  IoU: {[f'{i:.3f}' for i in iu.tolist()]}  mean IoU: {iu.mean():.3f}")

def get_args_parser():
    parser = argparse.ArgumentParser(description="PyTorch Segmentation Training")
    parser.add_argument("--device", default="cpu", type=str)
    parser.add_argument("--size", default=16, type=int)
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    parser.add_argument("--print-freq", default=10, type=int)
    parser.add_argument("--seed", default=0, type=int)
    return parser

if __name__ == "__main__":
    main(get_args_parser().parse_args())
