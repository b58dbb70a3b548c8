"""Objects as points: heat map of centers, sizes and offsets on scenes of up to four shapes."""
import random

import numpy as np
import torch
import torch.nn as nn
import torch.utils.data as data

import toydata


class opts:
    num_classes = 6
    input_res = 32
    down_ratio = 4
    output_res = 8
    batch_size = 28
    num_epochs = 8
    lr = 3e-3
    lr_step = [6]
    wh_weight = 0.5
    off_weight = 1.0
    center_thresh = 0.3
    seed = 317


class Scenes(data.Dataset):
    """Four fields of 16 x 16 a scene; about two in five fields are empty ground."""

    def __init__(self, split, count):
        shapes = toydata.Shapes(train=split == "train", count=4 * count)
        rng = np.random.RandomState(1 if split == "train" else 2)
        self.augment = split == "train"
        self.images, self.annotations = [], []
        for i in range(count):
            canvas = 0.5 + 0.08 * torch.from_numpy(rng.randn(3, 32, 32)).float()
            objects = []
            for field, (top, left) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)]):
                if rng.rand() < 0.6:
                    k = 4 * i + field
                    canvas[:, top : top + 16, left : left + 16] = shapes.images[k]
                    box = shapes.boxes[k] * 16 + torch.tensor([left, top, left, top])
                    objects.append(torch.cat([box, torch.tensor([float(shapes.targets[k])])]))
            self.images.append(canvas.clamp(0, 1))
            self.annotations.append(torch.stack(objects) if objects else torch.zeros(0, 5))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        inp, anns = self.images[index], self.annotations[index].clone()
        if self.augment and random.random() < 0.5:
            inp = inp.flip(-1)
            anns[:, [0, 2]] = opts.input_res - anns[:, [2, 0]]
        res = opts.output_res
        hm = torch.zeros(opts.num_classes, res, res)
        wh, reg, mask = torch.zeros(2, res, res), torch.zeros(2, res, res), torch.zeros(1, res, res)
        grid = torch.arange(res).float()
        for x1, y1, x2, y2, cls in anns.tolist():
            cx, cy = (x1 + x2) / 2 / opts.down_ratio, (y1 + y2) / 2 / opts.down_ratio
            ix, iy = int(cx), int(cy)
            gauss = torch.exp(-((grid[None, :] - ix) ** 2 + (grid[:, None] - iy) ** 2) / (2 * 0.6**2))
            hm[int(cls)] = torch.maximum(hm[int(cls)], gauss)
            wh[:, iy, ix] = torch.tensor([x2 - x1, y2 - y1]) / opts.down_ratio
            reg[:, iy, ix] = torch.tensor([cx - ix, cy - iy])
            mask[0, iy, ix] = 1
        return {"input": (inp - 0.5) / 0.2, "hm": hm, "wh": wh, "reg": reg, "mask": mask}


def conv(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class PointNet(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.base = nn.Sequential(conv(3, 16), conv(16, 32, 2), conv(32, 32), conv(32, 64, 2), conv(64, 64), conv(64, 48))
        self.heads = nn.ModuleDict({name: nn.Conv2d(48, channels, 1) for name, channels in heads.items()})
        nn.init.constant_(self.heads["hm"].bias, -2.19)

    def forward(self, x):
        feat = self.base(x)
        return {name: head(feat) for name, head in self.heads.items()}


def neg_loss(pred, gt):
    pred = torch.clamp(pred.sigmoid(), min=1e-4, max=1 - 1e-4)
    pos_inds, neg_inds = gt.eq(1).float(), gt.lt(1).float()
    pos_loss = torch.log(pred) * (1 - pred) ** 2 * pos_inds
    neg_loss = torch.log(1 - pred) * pred**2 * (1 - gt) ** 4 * neg_inds
    return -(pos_loss.sum() + neg_loss.sum()) / pos_inds.sum().clamp(min=1)


def reg_loss(pred, gt, mask):
    return ((pred - gt).abs() * mask).sum() / mask.sum().clamp(min=1)


def ctdet_loss(out, batch):
    hm = neg_loss(out["hm"], batch["hm"])
    wh = reg_loss(out["wh"], batch["wh"], batch["mask"])
    off = reg_loss(out["reg"], batch["reg"], batch["mask"])
    return hm + opts.wh_weight * wh + opts.off_weight * off, hm


def decode(out):
    heat = out["hm"].sigmoid()
    keep = (nn.functional.max_pool2d(heat, 3, 1, 1) == heat) & (heat > opts.center_thresh)
    detections = [[] for _ in range(len(heat))]
    for b, c, y, x in keep.nonzero().tolist():
        w, h = (out["wh"][b, :, y, x] * opts.down_ratio).tolist()
        cx, cy = ((out["reg"][b, :, y, x] + torch.tensor([x, y])) * opts.down_ratio).tolist()
        detections[b].append((heat[b, c, y, x].item(), c, [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]))
    return [sorted(dets, reverse=True) for dets in detections]


def iou(a, b):
    inter = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter + 1e-9)


@torch.no_grad()
def evaluate(model, dataset, loader):
    model.eval()
    detections = [dets for batch in loader for dets in decode(model(batch["input"]))]
    tp = 0
    for dets, anns in zip(detections, dataset.annotations):
        free = anns.tolist()
        for _, cls, box in dets:
            hit = next((gt for gt in free if int(gt[4]) == cls and iou(box, gt[:4]) > 0.5), None)
            if hit is not None:
                free.remove(hit)
                tp += 1
    found, objects = sum(map(len, detections)), sum(map(len, dataset.annotations))
    return tp / max(found, 1), tp / objects


def main(opt):
    random.seed(opt.seed)
    torch.manual_seed(opt.seed)
    train_set, val_set = Scenes("train", 700), Scenes("val", 120)
    train_loader = data.DataLoader(train_set, batch_size=opt.batch_size, shuffle=True, drop_last=True)
    val_loader = data.DataLoader(val_set, batch_size=40)
    model = PointNet({"hm": opt.num_classes, "wh": 2, "reg": 2})
    optimizer = torch.optim.Adam(model.parameters(), opt.lr)
    for epoch in range(1, opt.num_epochs + 1):
        model.train()
        for batch in train_loader:
            loss, hm_loss = ctdet_loss(model(batch["input"]), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch in opt.lr_step:
            for param_group in optimizer.param_groups:
                param_group["lr"] = opt.lr * 0.1
        precision, recall = evaluate(model, val_set, val_loader)
        print(f"epoch {epoch} loss {loss.item():.3f} hm {hm_loss.item():.3f} | P {precision:.3f} R {recall:.3f}")


if __name__ == "__main__":
    main(opts)
