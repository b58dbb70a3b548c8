"""Keypoints of cartoon faces as heat maps, with a trainer and hooks in the manner of Detectron2."""

import argparse
import logging
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

logger = logging.getLogger("keypoints")

KEYPOINT_NAMES = ["left_eye", "right_eye", "mouth"]
FLIP_PAIRS = [(0, 1)]
SIZE, STRIDE = 24, 2


def load_faces(count, seed):
    """Dataset dicts: an image of SIZE x SIZE x 3 bytes, and three points (x, y)."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    dicts = []
    for i in range(count):
        half = rng.uniform(3.0, 4.5)
        cx, cy = rng.uniform(6.5, SIZE - 7.5, 2)
        points = np.array([[cx - half, cy - half], [cx + half, cy - half], [cx, cy + half]], np.float32)
        image = np.full((SIZE, SIZE, 3), 90, np.float32)
        for (x, y), color in zip(points, [(140, 140, 60), (140, 140, 60), (150, -60, -60)]):
            spot = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 4.0)
            image += spot[..., None] * np.array(color, np.float32)
        image += rng.normal(0, 8, image.shape)
        dicts.append({"image_id": i, "image": image.clip(0, 255).astype(np.uint8), "keypoints": points})
    return dicts


class DatasetMapper:
    def __init__(self, is_train):
        self.is_train = is_train

    def __call__(self, d):
        image, points = d["image"], d["keypoints"].copy()
        if self.is_train and np.random.rand() < 0.5:
            image = image[:, ::-1]
            points[:, 0] = SIZE - 1 - points[:, 0]
            for a, b in FLIP_PAIRS:
                points[[a, b]] = points[[b, a]]
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {"image": tensor, "keypoints": torch.from_numpy(points)}


class MapDataset(Dataset):
    def __init__(self, dicts, mapper):
        self.dicts, self.mapper = dicts, mapper

    def __len__(self):
        return len(self.dicts)

    def __getitem__(self, i):
        return self.mapper(self.dicts[i])


def conv_bn(cin, cout, stride=1):
    conv = nn.Conv2d(cin, cout, 5, stride, 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class KeypointNet(nn.Module):
    def __init__(self, width=20, freeze_at=0):
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor([98.0, 95.0, 92.0]).view(3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor([30.0, 25.0, 15.0]).view(3, 1, 1))
        self.stages = nn.ModuleList(
            [conv_bn(3, width, STRIDE), conv_bn(width, width), conv_bn(width, width), conv_bn(width, width)]
        )
        self.predictor = nn.Conv2d(width, len(KEYPOINT_NAMES), 1)
        for stage in self.stages[:freeze_at]:
            for p in stage.parameters():
                p.requires_grad = False

    def forward(self, image):
        x = (image.float() - self.pixel_mean) / self.pixel_std
        for stage in self.stages:
            x = stage(x)
        return self.predictor(x)


def render_heatmaps(points, sigma=1.0):
    side = SIZE // STRIDE
    grid = torch.arange(side, dtype=torch.float32) * STRIDE + (STRIDE - 1) / 2
    dx = (points[..., 0, None] - grid) / STRIDE
    dy = (points[..., 1, None] - grid) / STRIDE
    return torch.exp(-(dy[..., :, None] ** 2 + dx[..., None, :] ** 2) / (2 * sigma**2))


def heatmaps_to_keypoints(maps):
    side = maps.shape[-1]
    index = maps.flatten(2).argmax(-1)
    y, x = index // side, index % side
    return torch.stack([x, y], -1).float() * STRIDE + (STRIDE - 1) / 2


def keypoint_loss(maps, targets):
    return 10.0 * nn.functional.mse_loss(maps, targets)


@contextmanager
def inference_context(model):
    training_mode = model.training
    model.eval()
    yield
    model.train(training_mode)


class HookBase:
    def after_step(self):
        pass


class LRScheduler(HookBase):
    def __init__(self, scheduler):
        self.scheduler = scheduler

    def after_step(self):
        self.scheduler.step()


class EvalHook(HookBase):
    def __init__(self, period, loader):
        self.period, self.loader = period, loader

    def after_step(self):
        if (self.trainer.iter + 1) % self.period == 0:
            error, pck = inference_on_dataset(self.trainer.model, self.loader)
            logger.info("iter %d  loss %.4f  error %.2f px  PCK@2 %.3f", self.trainer.iter + 1, self.trainer.loss, error, pck)


@torch.no_grad()
def inference_on_dataset(model, loader):
    distances = []
    with inference_context(model):
        for batch in loader:
            points = heatmaps_to_keypoints(model(batch["image"]))
            distances.append((points - batch["keypoints"]).norm(dim=-1))
    distances = torch.cat(distances)
    return distances.mean().item(), (distances < 2).float().mean().item()


class SimpleTrainer:
    def __init__(self, model, loader, optimizer):
        self.model, self.loader, self.optimizer = model, loader, optimizer
        self.hooks, self.iter, self.loss = [], 0, float("nan")

    def register_hooks(self, hooks):
        for hook in hooks:
            hook.trainer = self
        self.hooks.extend(hooks)

    def batches(self):
        while True:
            yield from self.loader

    def train(self, max_iter):
        self.model.train()
        stream = self.batches()
        for self.iter in range(max_iter):
            batch = next(stream)
            loss = keypoint_loss(self.model(batch["image"]), render_heatmaps(batch["keypoints"]))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.loss = loss.item()
            for hook in self.hooks:
                hook.after_step()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-iter", type=int, default=300)
    parser.add_argument("--ims-per-batch", type=int, default=24)
    parser.add_argument("--base-lr", type=float, default=3e-3)
    parser.add_argument("--freeze-at", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(1)
    np.random.seed(1)
    train_set = MapDataset(load_faces(720, seed=0), DatasetMapper(is_train=True))
    test_set = MapDataset(load_faces(160, seed=1), DatasetMapper(is_train=False))
    model = KeypointNet(freeze_at=args.freeze_at)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=args.base_lr)
    steps = [int(0.6 * args.max_iter), int(0.9 * args.max_iter)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=steps, gamma=0.2)
    trainer = SimpleTrainer(model, DataLoader(train_set, args.ims_per_batch, shuffle=True, drop_last=True), optimizer)
    trainer.register_hooks([LRScheduler(scheduler), EvalHook(30, DataLoader(test_set, 40))])
    trainer.train(args.max_iter)


if __name__ == "__main__":
    main()
