"""Direction of motion in short clips (3D convolutions), in the manner of MMEngine and MMAction2."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

REGISTRY = {}

def register(cls):
    REGISTRY[cls.__name__] = cls
    return cls

def build(cfg, **extra):
    cfg = dict(cfg, **extra)
    return REGISTRY[cfg.pop("type")](**cfg)

MOTION = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
CLASSES = ("left", "right", "up", "down")

train_pipeline = [dict(type="Brightness", delta=0.2), dict(type="FormatShape")]
val_pipeline = [dict(type="FormatShape")]
train_dataset = dict(type="MotionDataset", num=800, seed=0, metainfo=dict(classes=CLASSES), pipeline=train_pipeline)
val_dataset = dict(type="MotionDataset", num=240, seed=1, metainfo=dict(classes=CLASSES), pipeline=val_pipeline)
train_sampler = dict(type="DefaultSampler", shuffle=True)
model = dict(
    type="Recognizer3D", channels=(8, 16, 32), num_classes=4, dropout_ratio=0.2,
    init_cfg=[dict(type="Kaiming", layer=["Conv3d"]), dict(type="Constant", val=1, layer=["BatchNorm3d"])],
)
optim_wrapper = dict(lr=3e-3, weight_decay=0.01, paramwise_cfg=dict(backbone=0.5, cls_head=1.0))

@register
class Brightness:
    def __init__(self, delta):
        self.delta = delta

    def __call__(self, results):
        results["imgs"] = results["imgs"] + self.delta * (2 * torch.rand(()) - 1)
        return results

@register
class FormatShape:
    def __call__(self, results):
        results["imgs"] = ((results["imgs"] - 0.1) / 0.3).permute(1, 0, 2, 3)  # TCHW -> CTHW
        return results

@register
class MotionDataset(Dataset):
    def __init__(self, num, seed, metainfo, pipeline, size=16, length=6):
        generator = torch.Generator().manual_seed(seed)
        self.pipeline = [build(transform) for transform in pipeline]
        self.data_list = []
        for name, (dy, dx) in MOTION.items():  # one folder after another
            for _ in range(num // len(MOTION)):
                frame, ground = torch.zeros(1, size, size), 0.2 * torch.rand(1, size, size, generator=generator)
                frame[:, 6:10, 6:10] = 0.6 + 0.4 * torch.rand(1, 4, 4, generator=generator)
                top, left = torch.randint(0, size, (2,), generator=generator).tolist()
                speed = int(torch.randint(1, 3, (1,), generator=generator))
                imgs = torch.stack([frame.roll((top + t * speed * dy, left + t * speed * dx), (1, 2)) for t in range(length)])
                imgs = imgs + ground + 0.05 * torch.randn(imgs.shape, generator=generator)
                self.data_list.append(dict(imgs=imgs, label=metainfo["classes"].index(name)))

    def __len__(self):
        return len(self.data_list)

    def __getitem__(self, idx):
        results = dict(self.data_list[idx])
        for transform in self.pipeline:
            results = transform(results)
        return results["imgs"], results["label"]

@register
class DefaultSampler(Sampler):
    def __init__(self, dataset, shuffle):
        self.size, self.shuffle = len(dataset), shuffle

    def __iter__(self):
        return iter((torch.randperm(self.size) if self.shuffle else torch.arange(self.size)).tolist())

    def __len__(self):
        return self.size

@register
class Recognizer3D(nn.Module):
    def __init__(self, channels, num_classes, dropout_ratio, init_cfg):
        super().__init__()
        layers, inp = [], 1
        for out, stride in zip(channels, [(1, 1, 1), (1, 2, 2), (2, 2, 2)]):
            layers += [nn.Conv3d(inp, out, 3, stride, 1, bias=False), nn.BatchNorm3d(out), nn.ReLU(inplace=True)]
            inp = out
        self.backbone = nn.Sequential(*layers)
        self.cls_head = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(dropout_ratio), nn.Linear(inp, num_classes))
        for cfg in init_cfg:
            for module in self.modules():
                if type(module).__name__ in cfg["layer"]:
                    if cfg["type"] == "Kaiming":
                        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                    else:
                        nn.init.constant_(module.weight, cfg["val"])

    def forward(self, inputs):
        return self.cls_head(self.backbone(inputs))

def build_optim_wrapper(model, cfg):
    groups = []
    for name, lr_mult in cfg["paramwise_cfg"].items():
        groups.append(dict(params=list(getattr(model, name).parameters()), lr=cfg["lr"] * lr_mult))
    return torch.optim.AdamW(groups, lr=cfg["lr"], weight_decay=cfg["weight_decay"])

def setup():
    torch.manual_seed(0)
    train_set, val_set = build(train_dataset), build(val_dataset)
    recognizer = build(model)
    return dict(
        model=recognizer,
        train=DataLoader(train_set, batch_size=32, sampler=build(train_sampler, dataset=train_set)),
        val=DataLoader(val_set, batch_size=48),
        loss=nn.CrossEntropyLoss(),
        optimizer=build_optim_wrapper(recognizer, optim_wrapper),
        task="classify",
    )
