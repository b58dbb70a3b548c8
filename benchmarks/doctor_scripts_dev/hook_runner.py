"""In the idiom of mmcv: a config dictionary, a Runner with registered hooks; semantic segmentation with mean IoU."""

import torch
from toydata import Shapes
from torch import nn
from torch.utils.data import DataLoader, Dataset

cfg = dict(
    model=dict(channels=16, num_classes=3),
    data=dict(samples_per_gpu=16, flip_prob=0.5),
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=5e-4),
    lr_config=dict(policy="poly", power=0.9, min_lr=1e-4),
    optimizer_config=dict(grad_clip=dict(max_norm=5.0)),
    runner=dict(max_epochs=6),
    loss=dict(class_weight=[0.4, 1.0, 1.2]),
)


class SegDataset(Dataset):
    def __init__(self, train, flip_prob=0.0):
        shapes = Shapes(train=train, count=360 if train else 96, size=24)
        self.images, self.flip_prob = shapes.images, flip_prob
        self.masks = [(m > 0) * (1 + k // 3) for m, k in zip(shapes.masks, shapes.targets, strict=True)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        img, gt = self.images[idx], self.masks[idx]
        if torch.rand(()) < self.flip_prob:
            img, gt = img.flip(-1), gt.flip(-1)
        return {"img": (img - 0.5) / 0.2, "gt_semantic_seg": gt}


class ConvModule(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Segmentor(nn.Module):
    def __init__(self, channels, num_classes):
        super().__init__()
        self.stem, self.down = ConvModule(3, channels), ConvModule(channels, 2 * channels, 2)
        self.mid = ConvModule(2 * channels, 2 * channels)
        self.fuse, self.conv_seg = ConvModule(3 * channels, channels), nn.Conv2d(channels, num_classes, 1)
        self.loss_decode = nn.CrossEntropyLoss(weight=torch.tensor(cfg["loss"]["class_weight"]))

    def forward(self, img):
        low = self.stem(img)
        high = nn.functional.interpolate(self.mid(self.down(low)), scale_factor=2, mode="bilinear", align_corners=False)
        return self.conv_seg(self.fuse(torch.cat([low, high], 1)))

    def train_step(self, data, optimizer):
        seg_logit = self(data["img"])
        loss = self.loss_decode(seg_logit, data["gt_semantic_seg"])
        return {"loss": loss, "num_samples": len(data["img"])}


class Hook:
    def before_run(self, runner): ...
    def before_train_iter(self, runner): ...
    def after_train_iter(self, runner): ...
    def after_train_epoch(self, runner): ...


class PolyLrUpdaterHook(Hook):
    def before_run(self, runner):
        self.base_lr = [group["lr"] for group in runner.optimizer.param_groups]

    def before_train_iter(self, runner):
        coeff = (1 - runner.iter / runner.max_iters) ** cfg["lr_config"]["power"]
        for group, base in zip(runner.optimizer.param_groups, self.base_lr, strict=True):
            group["lr"] = (base - cfg["lr_config"]["min_lr"]) * coeff + cfg["lr_config"]["min_lr"]


class OptimizerHook(Hook):
    def after_train_iter(self, runner):
        runner.optimizer.zero_grad()
        runner.outputs["loss"].backward()
        nn.utils.clip_grad_norm_(runner.model.parameters(), **cfg["optimizer_config"]["grad_clip"])
        runner.optimizer.step()


class EvalHook(Hook):
    def __init__(self, loader):
        self.loader = loader

    @torch.no_grad()
    def after_train_epoch(self, runner):
        runner.model.eval()
        hist = torch.zeros(3, 3)
        for data in self.loader:
            pred = runner.model(data["img"]).argmax(1)
            label = data["gt_semantic_seg"]
            hist += torch.bincount(3 * label.flatten() + pred.flatten(), minlength=9).reshape(3, 3)
        iou = hist.diag() / (hist.sum(0) + hist.sum(1) - hist.diag())
        print("mIoU", iou.mean().item(), "loss", runner.outputs["loss"].item())


class Runner:
    def __init__(self, model, optimizer, max_epochs):
        self.model, self.optimizer, self.max_epochs, self.hooks, self.iter = model, optimizer, max_epochs, [], 0

    def register_hook(self, hook):
        self.hooks.append(hook)

    def call_hook(self, name):
        for hook in self.hooks:
            getattr(hook, name)(self)

    def run(self, loader):
        self.max_iters = self.max_epochs * len(loader)
        self.call_hook("before_run")
        for self.epoch in range(self.max_epochs):
            self.model.train()
            for self.data_batch in loader:
                self.call_hook("before_train_iter")
                self.outputs = self.model.train_step(self.data_batch, self.optimizer)
                self.call_hook("after_train_iter")
                self.iter += 1
            self.call_hook("after_train_epoch")


def main():
    torch.manual_seed(5)
    model = Segmentor(**cfg["model"])
    options = dict(cfg["optimizer"])
    optimizer = getattr(torch.optim, options.pop("type"))(model.parameters(), **options)
    per_gpu = cfg["data"]["samples_per_gpu"]
    train_loader = DataLoader(SegDataset(True, cfg["data"]["flip_prob"]), per_gpu, shuffle=True, drop_last=True)
    val_loader = DataLoader(SegDataset(False), 32)
    runner = Runner(model, optimizer, **cfg["runner"])
    for hook in (PolyLrUpdaterHook(), OptimizerHook(), EvalHook(val_loader)):
        runner.register_hook(hook)
    runner.run(train_loader)


if __name__ == "__main__":
    main()
