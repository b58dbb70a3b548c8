"""Keypoints of stick figures with a Detectron2-like trainer: catalog, mapper, hooks, iterations instead of epochs."""
import bisect
import copy
import random
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

KEYPOINTS = ("head", "left_hand", "right_hand")
FLIP_ORDER = [0, 2, 1]
SIZE, STRIDE = 24, 2


def get_cfg():
    cfg = SimpleNamespace(SEED=7)
    cfg.INPUT = SimpleNamespace(FLIP_PROB=0.5)
    cfg.MODEL = SimpleNamespace(PIXEL_MEAN=[28.0, 32.0, 24.0], PIXEL_STD=[32.0, 40.0, 28.0], CHANNELS=24)
    cfg.SOLVER = SimpleNamespace(
        IMS_PER_BATCH=24, BASE_LR=2e-3, WEIGHT_DECAY=1e-4, MAX_ITER=450, STEPS=(330, 410), GAMMA=0.2,
        WARMUP_ITERS=20, WARMUP_FACTOR=0.05,
    )
    cfg.TEST = SimpleNamespace(EVAL_PERIOD=90, PCK_DISTANCE=2.0)
    return cfg


def load_figures(count, seed):
    """Figures with a head and two hands; both hands look alike, the left one is the one further left."""
    g = torch.Generator().manual_seed(seed)
    dicts = []
    y, x = torch.meshgrid(torch.arange(SIZE).float(), torch.arange(SIZE).float(), indexing="ij")
    for i in range(count):
        head = torch.tensor([8.0, 3.0]) + torch.randint(0, 8, (2,), generator=g)
        left = head + torch.stack([-torch.randint(3, 7, (), generator=g), torch.randint(3, 9, (), generator=g)])
        right = head + torch.stack([torch.randint(3, 7, (), generator=g), torch.randint(3, 9, (), generator=g)])
        points = torch.stack([head, left, right])
        blobs = torch.exp(-((x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2) / 3.0)
        image = torch.stack([blobs[0], blobs[1] + blobs[2], 0.3 * blobs.sum(0)])
        image = 0.1 + 0.8 * image + 0.08 * torch.randn(image.shape, generator=g)
        dicts.append({"image_id": i, "raw": (image.clamp(0, 1) * 255).to(torch.uint8), "keypoints": points})
    return dicts


DatasetCatalog = {
    "figures_train": lambda: load_figures(1200, seed=1),
    "figures_val": lambda: load_figures(300, seed=2),
}


class DatasetMapper:
    def __init__(self, cfg, is_train):
        self.flip_prob = cfg.INPUT.FLIP_PROB if is_train else 0.0

    def __call__(self, dataset_dict):
        dataset_dict = copy.deepcopy(dataset_dict)
        image, keypoints = dataset_dict.pop("raw"), dataset_dict["keypoints"]
        if random.random() < self.flip_prob:
            image = image.flip(-1)
            keypoints[:, 0] = image.shape[-1] - 1 - keypoints[:, 0]
            keypoints = keypoints[FLIP_ORDER]
        dataset_dict["image"] = image.float()
        dataset_dict["keypoints"] = keypoints
        return dataset_dict


class MapDataset(Dataset):
    def __init__(self, dicts, mapper):
        self.dicts, self.mapper = dicts, mapper

    def __len__(self):
        return len(self.dicts)

    def __getitem__(self, index):
        return self.mapper(self.dicts[index])


class TrainingSampler(Sampler):
    """An endless stream of shuffled indices."""

    def __init__(self, size, seed):
        self.size, self.seed = size, seed

    def __iter__(self):
        g = torch.Generator().manual_seed(self.seed)
        while True:
            yield from torch.randperm(self.size, generator=g).tolist()

    def __len__(self):
        return self.size


def trivial_batch_collator(batch):
    return batch


class KeypointRCNNLite(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        c = cfg.MODEL.CHANNELS
        self.register_buffer("pixel_mean", torch.tensor(cfg.MODEL.PIXEL_MEAN).view(3, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(cfg.MODEL.PIXEL_STD).view(3, 1, 1), False)
        self.backbone = nn.Sequential(nn.Conv2d(3, c, 5, 2, 2), nn.ReLU(), nn.Conv2d(c, c, 5, 1, 2), nn.ReLU())
        self.keypoint_head = nn.Sequential(nn.Conv2d(c, c, 5, 1, 2), nn.ReLU(), nn.Conv2d(c, len(KEYPOINTS), 5, 1, 2))

    def forward(self, batched_inputs):
        images = torch.stack([(d["image"] - self.pixel_mean) / self.pixel_std for d in batched_inputs])
        logits = self.keypoint_head(self.backbone(images))
        if not self.training:
            return self.inference(logits)
        cells = (torch.stack([d["keypoints"] for d in batched_inputs]) / STRIDE).long()
        target = cells[..., 1] * logits.shape[-1] + cells[..., 0]
        return {"loss_keypoint": F.cross_entropy(logits.flatten(2).flatten(0, 1), target.flatten())}

    def inference(self, logits):
        width = logits.shape[-1]
        index = logits.flatten(2).argmax(-1)
        return torch.stack([index % width, index // width], dim=-1) * STRIDE + STRIDE / 2 - 0.5


class HookBase:
    trainer = None

    def after_step(self):
        pass


class LRScheduler(HookBase):
    def __init__(self, cfg):
        self.cfg = cfg.SOLVER

    def factor(self, it):
        warm = 1.0
        if it < self.cfg.WARMUP_ITERS:
            alpha = it / self.cfg.WARMUP_ITERS
            warm = self.cfg.WARMUP_FACTOR * (1 - alpha) + alpha
        return warm * self.cfg.GAMMA ** bisect.bisect_right(self.cfg.STEPS, it)

    def after_step(self):
        for group in self.trainer.optimizer.param_groups:
            group["lr"] = self.cfg.BASE_LR * self.factor(self.trainer.iter + 1)


class EvalHook(HookBase):
    def __init__(self, period, function):
        self.period, self.function = period, function

    def after_step(self):
        if (self.trainer.iter + 1) % self.period == 0:
            loss = sum(self.trainer.losses) / len(self.trainer.losses)
            print(f"iter: {self.trainer.iter + 1}  loss: {loss:.3f}  PCK: {self.function():.1f}")
            self.trainer.losses.clear()


class DefaultTrainer:
    def __init__(self, cfg):
        self.cfg = cfg
        train = MapDataset(DatasetCatalog["figures_train"](), DatasetMapper(cfg, True))
        val = MapDataset(DatasetCatalog["figures_val"](), DatasetMapper(cfg, False))
        sampler = TrainingSampler(len(train), cfg.SEED)
        self.loader = DataLoader(train, cfg.SOLVER.IMS_PER_BATCH, sampler=sampler, collate_fn=trivial_batch_collator)
        self.val_loader = DataLoader(val, 50, collate_fn=trivial_batch_collator)
        self.model = KeypointRCNNLite(cfg)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)
        scheduler = LRScheduler(cfg)
        for group in self.optimizer.param_groups:
            group["lr"] = cfg.SOLVER.BASE_LR * scheduler.factor(0)
        self.losses, self.iter = [], 0
        self.hooks = [scheduler, EvalHook(cfg.TEST.EVAL_PERIOD, self.test)]
        for hook in self.hooks:
            hook.trainer = self

    def run_step(self):
        loss_dict = self.model(next(self.data_iter))
        losses = sum(loss_dict.values())
        self.optimizer.zero_grad()
        losses.backward()
        self.optimizer.step()
        self.losses.append(losses.item())

    def train(self):
        self.data_iter = iter(self.loader)
        self.model.train()
        for self.iter in range(self.cfg.SOLVER.MAX_ITER):
            self.run_step()
            for hook in self.hooks:
                hook.after_step()

    def test(self):
        self.model.eval()
        hits = total = 0
        with torch.no_grad():
            for batch in self.val_loader:
                error = (self.model(batch) - torch.stack([d["keypoints"] for d in batch])).norm(dim=-1)
                hits += (error <= self.cfg.TEST.PCK_DISTANCE).sum().item()
                total += error.numel()
        self.model.train()
        return 100 * hits / total


def main():
    cfg = get_cfg()
    random.seed(cfg.SEED)
    torch.manual_seed(cfg.SEED)
    DefaultTrainer(cfg).train()


if __name__ == "__main__":
    main()
