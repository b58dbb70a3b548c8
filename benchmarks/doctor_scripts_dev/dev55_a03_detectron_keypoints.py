"""Keypoints of small faces as a Detectron-like project: config node, mapper, meta architecture, trainer by iterations."""

import copy
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

KEYPOINT_NAMES = ("left_eye", "right_eye", "nose")
KEYPOINT_FLIP = [1, 0, 2]

def get_cfg():
    return SimpleNamespace(
        SEED=5, IMS_PER_BATCH=16, BASE_LR=0.05, MOMENTUM=0.9, WEIGHT_DECAY=1e-4, MAX_ITER=300, STEPS=(200, 260),
        GAMMA=0.1, CLIP_NORM=1.0, EVAL_PERIOD=75, CONV_DIM=24, DILATIONS=(1, 2, 4, 1), FLIP_PROB=0.5,
        PIXEL_MEAN=70.0, PIXEL_STD=45.0, NUM_TRAIN=600, NUM_TEST=120,
    )

def load_faces(count, seed, size=24):
    """A list of records, as DatasetCatalog gives them: image, and x and y of each point."""
    rng = np.random.default_rng(seed)
    records = []
    for image_id in range(count):
        x, y = rng.integers(8, size - 8), rng.integers(6, size - 9)
        width, height = rng.integers(3, 6), rng.integers(3, 6)
        points = [(x - width, y), (x + width, y), (x, y + height)]
        image = 60 + 12 * rng.standard_normal((size, size))
        for (px, py), value in zip(points, (210, 210, 150)):
            image[py - 1 : py + 2, px - 1 : px + 2] = value + 8 * rng.standard_normal((3, 3))
        records.append({
            "image_id": image_id,
            "image": image.clip(0, 255).astype(np.uint8),
            "keypoints": np.array(points, dtype=np.float32),
        })
    return records

class DatasetMapper:
    def __init__(self, cfg, is_train):
        self.is_train, self.flip_prob = is_train, cfg.FLIP_PROB

    def __call__(self, record):
        record = copy.deepcopy(record)  # it will be modified by code below
        image, keypoints = record["image"], record["keypoints"]
        if self.is_train and torch.rand(()) < self.flip_prob:
            image = np.ascontiguousarray(image[:, ::-1])
            keypoints[:, 0] = image.shape[1] - 1 - keypoints[:, 0]
            keypoints = keypoints[KEYPOINT_FLIP]
        record["image"] = torch.as_tensor(image).unsqueeze(0)
        record["keypoints"] = torch.as_tensor(keypoints)
        return record

class MapDataset(Dataset):
    def __init__(self, records, mapper):
        self.records, self.mapper = records, mapper

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.mapper(self.records[index])

class TrainingSampler(Sampler):
    """An endless stream of shuffled indices."""

    def __init__(self, size, seed):
        self.size, self.generator = size, torch.Generator().manual_seed(seed)

    def __iter__(self):
        while True:
            yield from torch.randperm(self.size, generator=self.generator).tolist()

class KeypointNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(cfg.PIXEL_MEAN), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(cfg.PIXEL_STD), persistent=False)
        self.stem = nn.Conv2d(1, cfg.CONV_DIM, 3, padding=1)
        self.blocks = []
        for k, dilation in enumerate(cfg.DILATIONS, 1):
            block = nn.Sequential(
                nn.Conv2d(cfg.CONV_DIM, cfg.CONV_DIM, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(cfg.CONV_DIM),
                nn.ReLU(),
            )
            self.add_module(f"conv_fcn{k}", block)
            self.blocks.append(block)
        self.score = nn.Conv2d(cfg.CONV_DIM, len(KEYPOINT_NAMES), 1)

    def forward(self, batched_inputs):
        images = torch.stack([record["image"] for record in batched_inputs]).float()
        features = F.relu(self.stem((images - self.pixel_mean) / self.pixel_std))
        for block in self.blocks:
            features = block(features)
        heatmaps = self.score(features)
        logits = heatmaps.flatten(2)
        width = heatmaps.shape[-1]
        if self.training:
            points = torch.stack([record["keypoints"] for record in batched_inputs]).long()
            target = points[..., 1] * width + points[..., 0]
            return {"loss_keypoint": F.cross_entropy(logits.flatten(0, 1), target.flatten())}
        peak = logits.argmax(-1)
        return torch.stack([peak % width, peak // width], -1).float()

class DefaultTrainer:
    def __init__(self, cfg):
        torch.manual_seed(cfg.SEED)
        self.cfg = cfg
        train = MapDataset(load_faces(cfg.NUM_TRAIN, seed=0), DatasetMapper(cfg, is_train=True))
        test = MapDataset(load_faces(cfg.NUM_TEST, seed=1), DatasetMapper(cfg, is_train=False))
        sampler = TrainingSampler(len(train), cfg.SEED)
        self.data_loader = DataLoader(train, cfg.IMS_PER_BATCH, sampler=sampler, collate_fn=list, drop_last=True)
        self.test_loader = DataLoader(test, 40, collate_fn=list)
        self.model = KeypointNet(cfg)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), cfg.BASE_LR, momentum=cfg.MOMENTUM, weight_decay=cfg.WEIGHT_DECAY
        )
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, list(cfg.STEPS), cfg.GAMMA)
        self.storage = {}

    def run_step(self, data):
        losses = sum(self.model(data).values())
        self.optimizer.zero_grad()
        losses.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=self.cfg.CLIP_NORM)
        self.optimizer.step()
        self.scheduler.step()
        self.storage.setdefault("total_loss", []).append(losses.detach())

    def train(self):
        self.model.train()
        data_iter = iter(self.data_loader)
        for self.iter in range(1, self.cfg.MAX_ITER + 1):
            self.run_step(next(data_iter))
            if self.iter % self.cfg.EVAL_PERIOD == 0:
                loss = torch.stack(self.storage["total_loss"][-20:]).mean()
                print(f"iter {self.iter}  total_loss {loss:.4f}  {self.test()}")

    @torch.no_grad()
    def test(self):
        training = self.model.training
        self.model.eval()
        errors = []
        for batch in self.test_loader:
            predicted = self.model(batch)
            truth = torch.stack([record["keypoints"] for record in batch])
            errors.append((predicted - truth).norm(dim=-1))
        self.model.train(training)
        errors = torch.cat(errors)
        return {"PCK@2": round((errors <= 2).float().mean().item(), 4), "error": round(errors.mean().item(), 3)}

def main():
    trainer = DefaultTrainer(get_cfg())
    trainer.train()
    print("final:", trainer.test())

if __name__ == "__main__":
    main()
