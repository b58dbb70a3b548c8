import logging
import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Sampler
from toydata import Shapes
logger = logging.getLogger("toydet")

def get_cfg():
    cfg = SimpleNamespace(SEED=7, INPUT=SimpleNamespace(SIZE=24))
    cfg.MODEL = SimpleNamespace(NUM_CLASSES=6, WIDTH=24, FREEZE_AT=0, PRIOR_PROB=0.05)
    cfg.SOLVER = SimpleNamespace(
        IMS_PER_BATCH=32, BASE_LR=0.02, MOMENTUM=0.9, WEIGHT_DECAY=1e-4,
        MAX_ITER=240, STEPS=(180,), GAMMA=0.1, WARMUP_ITERS=20, WARMUP_FACTOR=0.001)
    cfg.TEST = SimpleNamespace(EVAL_PERIOD=80, IMS_PER_BATCH=60)
    return cfg

class DatasetMapper(torch.utils.data.Dataset):
    def __init__(self, cfg, train):
        self.records = Shapes(train=train, size=cfg.INPUT.SIZE)
    def __len__(self):
        return len(self.records)
    def __getitem__(self, index):
        image, label = self.records[index]
        return {"image": (image - 0.5) / 0.2, "gt_box": self.records.boxes[index], "gt_class": label}

class TrainingSampler(Sampler):
    def __init__(self, size, seed):
        self.size, self.seed = size, seed
    def __iter__(self):
        g = torch.Generator().manual_seed(self.seed)
        while True:
            yield from torch.randperm(self.size, generator=g).tolist()

def conv_block(inp, out, stride):
    return nn.Sequential(nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())

def sigmoid_focal_loss(logits, targets, alpha=0.5, gamma=2.0):
    p = logits.sigmoid()
    ce_loss = F.softplus(logits) - logits * targets
    p_t = p * targets + (1 - p) * (1 - targets)
    alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
    return (alpha_t * ce_loss * (1 - p_t) ** gamma).sum() / targets.sum().clamp(min=1)

class OneStageDetector(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        width = cfg.MODEL.WIDTH
        self.grid = cfg.INPUT.SIZE // 4
        self.stages = nn.ModuleList([conv_block(3, width, 2), conv_block(width, width, 2), conv_block(width, 2 * width, 1)])
        self.objectness = nn.Conv2d(2 * width, 1, 3, padding=1)
        self.cls_score = nn.Conv2d(2 * width, cfg.MODEL.NUM_CLASSES, 3, padding=1)
        self.bbox_pred = nn.Conv2d(2 * width, 4, 3, padding=1)
        nn.init.constant_(self.objectness.bias, -math.log(1 / cfg.MODEL.PRIOR_PROB - 1))
        for stage in self.stages[: cfg.MODEL.FREEZE_AT]:
            stage.requires_grad_(False)
    def forward(self, batch):
        x = batch["image"]
        for stage in self.stages:
            x = stage(x)
        logits, scores, deltas = self.objectness(x), self.cls_score(x), self.bbox_pred(x)
        if self.training:
            return self.losses(logits, scores, deltas, batch["gt_box"], batch["gt_class"])
        return self.inference(logits, scores, deltas)
    def losses(self, logits, scores, deltas, gt_box, gt_class):
        center = (gt_box[:, :2] + gt_box[:, 2:]) / 2 * self.grid
        cell = center.long().clamp(max=self.grid - 1)
        rows, col, row = torch.arange(len(gt_box)), cell[:, 0], cell[:, 1]
        gt_heat = torch.zeros(len(gt_box), self.grid, self.grid)
        gt_heat[rows, row, col] = 1.0
        gt_deltas = torch.cat([center - cell - 0.5, torch.log(gt_box[:, 2:] - gt_box[:, :2])], dim=1)
        return {"loss_obj": sigmoid_focal_loss(logits.squeeze(1), gt_heat),
            "loss_cls": F.cross_entropy(scores[rows, :, row, col], gt_class),
            "loss_box": F.smooth_l1_loss(deltas[rows, :, row, col], gt_deltas, beta=0.1)}
    def inference(self, logits, scores, deltas):
        best = logits.flatten(1).argmax(dim=1)
        rows, row, col = torch.arange(len(logits)), best // self.grid, best % self.grid
        delta = deltas[rows, :, row, col]
        center = (torch.stack([col, row], dim=1) + 0.5 + delta[:, :2]) / self.grid
        half = delta[:, 2:].exp() / 2
        return torch.cat([center - half, center + half], dim=1), scores[rows, :, row, col].argmax(dim=1)

def paired_iou(a, b):
    inter = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(dim=1), (b[:, 2:] - b[:, :2]).prod(dim=1)
    return inter / (area_a + area_b - inter)

@torch.no_grad()
def inference_on_dataset(model, loader):
    model.eval()
    ious, hits = [], []
    for batch in loader:
        boxes, classes = model(batch)
        ious.append(paired_iou(boxes, batch["gt_box"]))
        hits.append(classes == batch["gt_class"])
    model.train()
    ious, hits = torch.cat(ious), torch.cat(hits)
    return {"mIoU": ious.mean().item(), "hit@0.5": ((ious > 0.5) & hits).float().mean().item()}

class HookBase:
    def before_step(self, trainer): ...
    def after_step(self, trainer): ...

class LRHook(HookBase):
    def __init__(self, cfg, optimizer):
        self.solver, self.optimizer = cfg.SOLVER, optimizer
    def before_step(self, trainer):
        s, it = self.solver, trainer.iter
        alpha = min(1.0, it / s.WARMUP_ITERS)
        factor = s.WARMUP_FACTOR * (1 - alpha) + alpha
        lr = s.BASE_LR * factor * s.GAMMA ** sum(it >= step for step in s.STEPS)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

class EvalHook(HookBase):
    def __init__(self, period, func):
        self.period, self.func = period, func
    def after_step(self, trainer):
        if (trainer.iter + 1) % self.period == 0:
            losses = {k: round(v.item(), 4) for k, v in trainer.loss_dict.items()}
            logger.info("iter %d %s %s", trainer.iter + 1, losses, self.func())

class DefaultTrainer:
    def __init__(self, cfg):
        self.cfg, self.model = cfg, OneStageDetector(cfg)
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trainable, cfg.SOLVER.BASE_LR, momentum=cfg.SOLVER.MOMENTUM, weight_decay=cfg.SOLVER.WEIGHT_DECAY)
        train_set, test_set = DatasetMapper(cfg, True), DatasetMapper(cfg, False)
        self.data_loader = DataLoader(
            train_set, cfg.SOLVER.IMS_PER_BATCH, sampler=TrainingSampler(len(train_set), cfg.SEED), drop_last=True)
        test_loader = DataLoader(test_set, cfg.TEST.IMS_PER_BATCH)
        self.hooks = [
            LRHook(cfg, self.optimizer),
            EvalHook(cfg.TEST.EVAL_PERIOD, lambda: inference_on_dataset(self.model, test_loader))]
    def run_step(self, batch):
        self.loss_dict = self.model(batch)
        losses = sum(self.loss_dict.values())
        self.optimizer.zero_grad()
        losses.backward()
        self.optimizer.step()
    def train(self):
        self.model.train()
        for self.iter, batch in zip(range(self.cfg.SOLVER.MAX_ITER), self.data_loader):
            for hook in self.hooks:
                hook.before_step(self)
            self.run_step(batch)
            for hook in self.hooks:
                hook.after_step(self)

def main():
    logging.basicConfig(level=logging.INFO, format="[%(name)s] %(message)s")
    cfg = get_cfg()
    torch.manual_seed(cfg.SEED)
    DefaultTrainer(cfg).train()

if __name__ == "__main__":
    main()
