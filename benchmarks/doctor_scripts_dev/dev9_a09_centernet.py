from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.data as data

from toydata import Shapes

opt = SimpleNamespace(lr=2e-3, batch_size=16, num_epochs=10, lr_step=[8], down_ratio=2, input_res=32,
                      num_classes=3, hm_weight=1.0, wh_weight=0.1, off_weight=1.0, flip=0.5, seed=317)
KINDS = ("square", "disc", "cross")


def draw_umich_gaussian(heatmap, center, sigma=0.8):
    x, y = center
    h, w = heatmap.shape
    ys, xs = np.mgrid[0:h, 0:w]
    gaussian = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma * sigma))
    np.maximum(heatmap, gaussian, out=heatmap)


class CTDetDataset(data.Dataset):
    def __init__(self, split):
        base = Shapes(split == "train", count=420 if split == "train" else 120, size=opt.input_res)
        self.split = split
        self.images = [im.numpy() for im in base.images]
        self.boxes = [(b * opt.input_res).numpy() for b in base.boxes]
        self.kinds = [KINDS.index(n.split()[1]) for n in base.names]
        self.rng = np.random.RandomState(opt.seed)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        img, bbox = self.images[index].copy(), self.boxes[index].copy()
        if self.split == "train" and self.rng.rand() < opt.flip:
            img = img[:, :, ::-1].copy()
            bbox[[0, 2]] = opt.input_res - bbox[[2, 0]]
        inp = (img - 0.5) / 0.2
        res = opt.input_res // opt.down_ratio
        hm = np.zeros((opt.num_classes, res, res), dtype=np.float32)
        bbox = bbox / opt.down_ratio
        ct = np.array([(bbox[0] + bbox[2]) / 2 - 0.25, (bbox[1] + bbox[3]) / 2 - 0.25], dtype=np.float32)
        ct_int = ct.astype(np.int64)
        draw_umich_gaussian(hm[self.kinds[index]], (ct_int[0], ct_int[1]))
        wh = np.array([bbox[2] - bbox[0], bbox[3] - bbox[1]], dtype=np.float32)
        return {"input": inp.astype(np.float32), "hm": hm, "ind": np.int64(ct_int[1] * res + ct_int[0]), "wh": wh,
                "reg": ct - ct_int, "kind": np.int64(self.kinds[index]), "center": ct}


def _sigmoid(x):
    return torch.clamp(x.sigmoid(), min=1e-4, max=1 - 1e-4)


def _neg_loss(pred, gt):
    pos_inds, neg_inds = gt.eq(1).float(), gt.lt(1).float()
    neg_weights = torch.pow(1 - gt, 4)
    pos_loss = (torch.log(pred) * torch.pow(1 - pred, 2) * pos_inds).sum()
    neg_loss = (torch.log(1 - pred) * torch.pow(pred, 2) * neg_weights * neg_inds).sum()
    num_pos = pos_inds.sum()
    return -(pos_loss + neg_loss) / num_pos.clamp(min=1)


def gather_feat(feat, ind):
    return feat.flatten(2).gather(2, ind[:, None, None].expand(-1, feat.shape[1], 1))[..., 0]


class PoseNet(nn.Module):
    def __init__(self, heads, width=24):
        super().__init__()
        def cbr(i, o, s=1):
            return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o, momentum=0.1), nn.ReLU(inplace=True))
        self.base = cbr(3, width, 2)
        self.down = nn.Sequential(cbr(width, 2 * width, 2), cbr(2 * width, 2 * width), cbr(2 * width, 2 * width))
        self.up = nn.ConvTranspose2d(2 * width, width, 4, 2, 1)
        self.heads = nn.ModuleDict()
        for head, classes in heads.items():
            fc = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, classes, 1))
            if head == "hm":
                fc[-1].bias.data.fill_(-2.19)
            self.heads[head] = fc

    def forward(self, x):
        x = self.base(x)
        x = F.relu(x + self.up(self.down(x)))
        return {name: head(x) for name, head in self.heads.items()}


class CtdetLoss(nn.Module):
    def forward(self, output, batch):
        hm = _sigmoid(output["hm"])
        hm_loss = _neg_loss(hm, batch["hm"])
        wh_loss = F.l1_loss(gather_feat(output["wh"], batch["ind"]), batch["wh"])
        off_loss = F.l1_loss(gather_feat(output["reg"], batch["ind"]), batch["reg"])
        loss = opt.hm_weight * hm_loss + opt.wh_weight * wh_loss + opt.off_weight * off_loss
        return loss, {"loss": loss, "hm_loss": hm_loss, "wh_loss": wh_loss, "off_loss": off_loss}


@torch.no_grad()
def run_val(model, loader):
    model.eval()
    hits = total = 0
    wh_error = 0.0
    for batch in loader:
        out = model(batch["input"])
        heat = out["hm"].sigmoid()
        res = heat.shape[-1]
        best = heat.flatten(1).argmax(1)
        kind, ind = best // (res * res), best % (res * res)
        off = gather_feat(out["reg"], ind)
        xy = torch.stack([ind % res, ind // res], 1) + off
        near = (xy - batch["center"]).norm(dim=1) < 1.0
        hits += (near & (kind == batch["kind"])).sum().item()
        wh_error += (gather_feat(out["wh"], ind) - batch["wh"]).abs().mean(1).sum().item()
        total += len(ind)
    return hits / total, wh_error / total


def main(opt):
    torch.manual_seed(opt.seed)
    model = PoseNet({"hm": opt.num_classes, "wh": 2, "reg": 2})
    optimizer = torch.optim.Adam(model.parameters(), opt.lr)
    train_loader = data.DataLoader(CTDetDataset("train"), batch_size=opt.batch_size, shuffle=True, drop_last=True)
    val_loader = data.DataLoader(CTDetDataset("val"), batch_size=30, shuffle=False)
    criterion = CtdetLoss()
    for epoch in range(1, opt.num_epochs + 1):
        model.train()
        sums = {}
        for batch in train_loader:
            loss, loss_stats = criterion(model(batch["input"]), batch)
            loss = loss.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for k, v in loss_stats.items():
                sums[k] = sums.get(k, 0.0) + v.item() / len(train_loader)
        print(f"epoch: {epoch} |", " | ".join(f"{k} {v:.4f}" for k, v in sums.items()))
        if epoch in opt.lr_step:
            for group in optimizer.param_groups:
                group["lr"] = opt.lr * (0.1 ** (opt.lr_step.index(epoch) + 1))
    print("val hit rate %.4f wh error %.3f" % run_val(model, val_loader))


if __name__ == "__main__":
    main(opt)
