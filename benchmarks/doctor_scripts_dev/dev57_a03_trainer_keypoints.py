"""Two keypoints of a stick figure by heat maps; trainer, hooks and config follow Detectron2."""
import logging
import math
from types import SimpleNamespace as CN

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

logger = logging.getLogger("kpts")

def get_cfg():
    cfg = CN()
    cfg.INPUT = CN(SIZE=24, SIGMA=1.2, NOISE=0.1, PIXEL_MEAN=0.05, PIXEL_STD=0.20)
    cfg.DATASETS = CN(TRAIN=800, TEST=200)
    cfg.MODEL = CN(WIDTH=16, NUM_KEYPOINTS=2, FREEZE_AT=0, PRIOR_PROB=0.05)
    cfg.SOLVER = CN(IMS_PER_BATCH=16, BASE_LR=3e-3, WEIGHT_DECAY=1e-4, MAX_ITER=400, WARMUP_ITERS=20, WARMUP_FACTOR=0.1)
    cfg.TEST = CN(EVAL_PERIOD=100, PCK_RADIUS=1.5)
    cfg.SEED = 7
    return cfg

class KeypointDataset(Dataset):
    """Images with a plus sign (keypoint 0) and a hollow square (keypoint 1)."""

    def __init__(self, cfg, count, seed):
        g = torch.Generator().manual_seed(seed)
        size = cfg.INPUT.SIZE
        self.cfg = cfg
        self.images = cfg.INPUT.NOISE * torch.randn(count, 1, size, size, generator=g)
        self.keypoints = torch.zeros(count, 2, 2)
        for i in range(count):
            while True:
                (x0, y0), (x1, y1) = torch.randint(2, size - 2, (2, 2), generator=g).tolist()
                if abs(x0 - x1) + abs(y0 - y1) > 7:
                    break
            self.images[i, 0, y0, x0 - 2 : x0 + 3] += 1.0
            self.images[i, 0, y0 - 2 : y0 + 3, x0] += 1.0
            self.images[i, 0, y1 - 2 : y1 + 3, x1 - 2 : x1 + 3] += 1.0
            self.images[i, 0, y1 - 1 : y1 + 2, x1 - 1 : x1 + 2] -= 1.0
            self.keypoints[i] = torch.tensor([[x0, y0], [x1, y1]]).float()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        c = self.cfg.INPUT
        image = (self.images[index] - c.PIXEL_MEAN) / c.PIXEL_STD
        keypoints = self.keypoints[index]
        return {"image": image, "keypoints": keypoints, "heatmaps": keypoints_to_heatmaps(keypoints, c.SIZE, c.SIGMA)}

def keypoints_to_heatmaps(keypoints, size, sigma):
    grid = torch.arange(size).float()
    dx = (grid[None, None, :] - keypoints[:, 0, None, None]) ** 2
    dy = (grid[None, :, None] - keypoints[:, 1, None, None]) ** 2
    return torch.exp(-(dx + dy) / (2 * sigma**2))

def heatmaps_to_keypoints(maps):
    """(N, K, H, W) -> (N, K, 2), each as x, y."""
    n, k, h, w = maps.shape
    pos = maps.view(n, k, -1).argmax(dim=2)
    x_int = pos % w
    y_int = (pos - x_int) // w
    return torch.stack([x_int, y_int], dim=2).float()

class Backbone(nn.Module):
    def __init__(self, width, freeze_at):
        super().__init__()
        self.stages = nn.ModuleList()
        for i, (cin, cout) in enumerate([(1, width), (width, 2 * width), (2 * width, 2 * width)]):
            stride = 2 if i == 1 else 1
            self.stages.append(nn.Sequential(
                nn.Conv2d(cin, cout, 3, stride, 1), nn.GroupNorm(4, cout), nn.ReLU()))
        for stage in self.stages[:freeze_at]:
            for p in stage.parameters():
                p.requires_grad = False

    def forward(self, x):
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs[0], outputs[-1]

class KeypointHead(nn.Module):
    def __init__(self, width, num_keypoints, prior_prob):
        super().__init__()
        self.lateral = nn.Conv2d(width, 2 * width, 1)
        self.conv = nn.Conv2d(2 * width, width, 3, padding=1)
        self.score = nn.Conv2d(width, num_keypoints, 1)
        nn.init.normal_(self.score.weight, std=0.05)
        nn.init.constant_(self.score.bias, -math.log((1 - prior_prob) / prior_prob))

    def forward(self, low, high):
        x = F.interpolate(high, scale_factor=2, mode="nearest") + self.lateral(low)
        return self.score(F.relu(self.conv(F.relu(x))))

class KeypointNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.backbone = Backbone(cfg.MODEL.WIDTH, cfg.MODEL.FREEZE_AT)
        self.head = KeypointHead(cfg.MODEL.WIDTH, cfg.MODEL.NUM_KEYPOINTS, cfg.MODEL.PRIOR_PROB)

    def forward(self, batch):
        logits = self.head(*self.backbone(batch["image"]))
        if not self.training:
            return heatmaps_to_keypoints(logits)
        loss = F.binary_cross_entropy_with_logits(logits, batch["heatmaps"], reduction="sum")
        return {"loss_keypoint": loss / batch["keypoints"].shape[:2].numel() / 10}

class DefaultTrainer:
    def __init__(self, cfg):
        self.cfg = cfg
        torch.manual_seed(cfg.SEED)
        self.model = KeypointNet(cfg)
        params = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(params, cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.lr_factor)
        self.data_loader = DataLoader(KeypointDataset(cfg, cfg.DATASETS.TRAIN, seed=1), cfg.SOLVER.IMS_PER_BATCH,
                                      shuffle=True, drop_last=True)
        self.test_loader = DataLoader(KeypointDataset(cfg, cfg.DATASETS.TEST, seed=2), 50)

    def lr_factor(self, it):
        s = self.cfg.SOLVER
        if it < s.WARMUP_ITERS:
            alpha = it / s.WARMUP_ITERS
            return s.WARMUP_FACTOR * (1 - alpha) + alpha
        return 0.5 * (1 + math.cos(math.pi * it / s.MAX_ITER))

    def infinite(self):
        while True:
            yield from self.data_loader

    def run_step(self, data):
        loss_dict = self.model(data)
        losses = sum(loss_dict.values())
        self.optimizer.zero_grad()
        losses.backward()
        self.optimizer.step()
        self.scheduler.step()
        return losses.item()

    def train(self):
        data_iter = self.infinite()
        self.model.train()
        for self.iter in range(self.cfg.SOLVER.MAX_ITER):
            loss = self.run_step(next(data_iter))
            if (self.iter + 1) % self.cfg.TEST.EVAL_PERIOD == 0:
                logger.info("iter: %d  total_loss: %.4f  PCK: %.3f", self.iter + 1, loss, self.test())

    @torch.no_grad()
    def test(self):
        self.model.eval()
        hits, total = 0, 0
        for data in self.test_loader:
            dist = (self.model(data) - data["keypoints"]).norm(dim=2)
            hits += (dist <= self.cfg.TEST.PCK_RADIUS).sum().item()
            total += dist.numel()
        self.model.train()
        return hits / total

def main():
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    trainer = DefaultTrainer(get_cfg())
    trainer.train()

if __name__ == "__main__":
    main()
