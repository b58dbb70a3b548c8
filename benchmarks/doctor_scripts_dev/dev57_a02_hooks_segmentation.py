"""Semantic segmentation of shapes, with a small runner and hooks in the manner of MMEngine."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

cfg = dict(
    model=dict(in_channels=3, channels=16, num_classes=4, dropout_ratio=0.1),
    train_dataloader=dict(batch_size=20, shuffle=True, num_workers=0, drop_last=True),
    val_dataloader=dict(batch_size=40, shuffle=False, num_workers=0),
    optim_wrapper=dict(lr=0.1, momentum=0.9, weight_decay=5e-4, clip_norm=5.0),
    param_scheduler=dict(power=0.9, eta_min=1e-3),
    train_cfg=dict(max_epochs=8, val_interval=2),
    custom_hooks=["ParamSchedulerHook", "LoggerHook", "EvalHook", "CheckpointHook"],
    metainfo=dict(classes=("background", "square", "disc", "cross")),
    img_norm=dict(mean=0.48, std=0.17),
    ignore_index=255,
    randomness=dict(seed=3),
)

class ShapesSegDataset(Dataset):
    def __init__(self, train, flip_prob=0.0):
        self.source = Shapes(train=train)
        self.flip_prob = flip_prob

    def __len__(self):
        return len(self.source)

    def __getitem__(self, idx):
        img, seg = self.source.images[idx], self.source.masks[idx].clone()
        img = (img - cfg["img_norm"]["mean"]) / cfg["img_norm"]["std"]
        if torch.rand(()) < self.flip_prob:
            img = img.flip(-1)
            seg = seg.flip(-1)
        return dict(inputs=img, gt_sem_seg=seg)

def balanced_class_weight(dataset, num_classes):
    counts = torch.zeros(num_classes)
    for mask in dataset.source.masks:
        counts += torch.bincount(mask.flatten(), minlength=num_classes).float()
    freq = counts / counts.sum()
    weight = 1.0 / freq.sqrt()
    return weight / weight.mean()

class ConvModule(nn.Sequential):
    def __init__(self, cin, cout, stride=1):
        super().__init__(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))

class EncoderDecoder(nn.Module):
    def __init__(self, in_channels, channels, num_classes, dropout_ratio, class_weight):
        super().__init__()
        c = channels
        self.stem = ConvModule(in_channels, c)
        self.down1 = nn.Sequential(ConvModule(c, 2 * c, 2), ConvModule(2 * c, 2 * c))
        self.down2 = nn.Sequential(ConvModule(2 * c, 2 * c, 2), ConvModule(2 * c, 2 * c))
        self.fuse1 = ConvModule(4 * c, c)
        self.fuse0 = ConvModule(2 * c, c)
        self.dropout = nn.Dropout2d(dropout_ratio)
        self.conv_seg = nn.Conv2d(c, num_classes, 1)
        self.register_buffer("class_weight", class_weight)

    def _forward(self, x):
        x0 = self.stem(x)
        x1 = self.down1(x0)
        x2 = self.down2(x1)
        x = F.interpolate(x2, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.fuse1(torch.cat([x, x1], dim=1))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.fuse0(torch.cat([x, x0], dim=1))
        return self.conv_seg(self.dropout(x))

    def forward(self, inputs, gt_sem_seg=None, mode="loss"):
        seg_logits = self._forward(inputs)
        if mode == "predict":
            return seg_logits.argmax(dim=1)
        loss_ce = F.cross_entropy(seg_logits, gt_sem_seg, weight=self.class_weight, ignore_index=cfg["ignore_index"])
        return dict(loss_ce=loss_ce)

class Hook:
    def after_train_iter(self, runner):
        pass

    def after_train_epoch(self, runner):
        pass

class ParamSchedulerHook(Hook):
    """PolyLR by iteration."""

    def after_train_iter(self, runner):
        s, base = cfg["param_scheduler"], cfg["optim_wrapper"]["lr"]
        factor = (1 - runner.iter / runner.max_iters) ** s["power"]
        for group in runner.optimizer.param_groups:
            group["lr"] = (base - s["eta_min"]) * factor + s["eta_min"]

class LoggerHook(Hook):
    def after_train_epoch(self, runner):
        lr = runner.optimizer.param_groups[0]["lr"]
        print(f"Epoch(train) [{runner.epoch + 1}] lr: {lr:.3e} loss: {runner.loss_sum / len(runner.train_loader):.4f}")

class EvalHook(Hook):
    def after_train_epoch(self, runner):
        if (runner.epoch + 1) % cfg["train_cfg"]["val_interval"] == 0:
            runner.metrics = runner.val()
            print(f"Epoch(val) [{runner.epoch + 1}] " + " ".join(f"{k}: {v:.4f}" for k, v in runner.metrics.items()))

class CheckpointHook(Hook):
    def __init__(self):
        self.best, self.state = 0.0, None

    def after_train_epoch(self, runner):
        miou = runner.metrics.get("mIoU", 0.0)
        if miou > self.best:
            self.best = miou
            self.state = {k: v.clone() for k, v in runner.model.state_dict().items()}

class Runner:
    def __init__(self):
        torch.manual_seed(cfg["randomness"]["seed"])
        train_set = ShapesSegDataset(train=True, flip_prob=0.5)
        self.train_loader = DataLoader(train_set, **cfg["train_dataloader"])
        self.val_loader = DataLoader(ShapesSegDataset(train=False), **cfg["val_dataloader"])
        weight = balanced_class_weight(train_set, cfg["model"]["num_classes"])
        self.model = EncoderDecoder(**cfg["model"], class_weight=weight)
        o = cfg["optim_wrapper"]
        self.optimizer = torch.optim.SGD(self.model.parameters(), o["lr"], o["momentum"], weight_decay=o["weight_decay"])
        self.hooks = [globals()[name]() for name in cfg["custom_hooks"]]
        self.max_epochs = cfg["train_cfg"]["max_epochs"]
        self.max_iters = self.max_epochs * len(self.train_loader)
        self.iter, self.epoch, self.metrics = 0, 0, {}

    def call_hook(self, name):
        for hook in self.hooks:
            getattr(hook, name)(self)

    def train(self):
        for self.epoch in range(self.max_epochs):
            self.model.train()
            self.loss_sum = 0.0
            for data_batch in self.train_loader:
                losses = self.model(**data_batch, mode="loss")
                loss = sum(losses.values())
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), cfg["optim_wrapper"]["clip_norm"])
                self.optimizer.step()
                self.loss_sum += loss.item()
                self.iter += 1
                self.call_hook("after_train_iter")
            self.call_hook("after_train_epoch")

    @torch.no_grad()
    def val(self):
        self.model.eval()
        num_classes = cfg["model"]["num_classes"]
        hist = torch.zeros(num_classes, num_classes)
        for data_batch in self.val_loader:
            pred = self.model(data_batch["inputs"], mode="predict")
            index = data_batch["gt_sem_seg"].flatten() * num_classes + pred.flatten()
            hist += torch.bincount(index, minlength=num_classes**2).view(num_classes, num_classes).float()
        iou = hist.diag() / (hist.sum(0) + hist.sum(1) - hist.diag()).clamp(min=1)
        return dict(aAcc=(hist.diag().sum() / hist.sum()).item(), mIoU=iou.mean().item())

def main():
    runner = Runner()
    runner.train()
    print("best mIoU", runner.hooks[-1].best)

if __name__ == "__main__":
    main()
