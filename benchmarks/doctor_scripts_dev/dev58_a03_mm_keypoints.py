"""Keypoint heat maps of three parts, with a runner and hooks in the manner of MMEngine / MMPose."""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask

cfg = dict(
    data=dict(size=24, part=7, train_count=800, val_count=200, batch_size=32),
    codec=dict(heatmap_size=12, sigma=1.0),
    model=dict(channels=32, num_stages=2, num_keypoints=3),
    optimizer=dict(type="Adam", lr=3e-3),
    param_scheduler=dict(type="MultiStepLR", milestones=[9, 11], gamma=0.2),
    max_epochs=12,
    grad_clip=5.0,
)


def make_annotations(count, size, part, seed):
    """Images with a square, a disc and a cross in three of the four quadrants, and their centers (x, y)."""
    generator = torch.Generator().manual_seed(seed)
    samples, half = [], size // 2
    for _ in range(count):
        quadrants = torch.randperm(4, generator=generator)[:3].tolist()
        image = 0.1 * torch.randn(1, size, size, generator=generator)
        points = []
        for kind, quadrant in zip(("square", "disc", "cross"), quadrants):
            dy, dx = torch.randint(0, half - part + 1, (2,), generator=generator).tolist()
            top, left = quadrant // 2 * half + dy, quadrant % 2 * half + dx
            image[0, shape_mask(kind, size, top, left, part)] += 1.0
            points.append([left + part // 2, top + part // 2])
        samples.append(dict(img=image, keypoints=torch.tensor(points).float()))
    return samples


class PoseDataset(Dataset):
    def __init__(self, data_list, size, heatmap_size, sigma, test_mode=False):
        self.data_list, self.size, self.test_mode = data_list, size, test_mode
        self.heatmap_size, self.sigma = heatmap_size, sigma
        self.stride = size // heatmap_size

    def __len__(self):
        return len(self.data_list)

    def encode(self, keypoints):
        grid = torch.arange(self.heatmap_size).float()
        center = keypoints / self.stride
        gx = torch.exp(-((grid - center[:, :1]) ** 2) / (2 * self.sigma**2))
        gy = torch.exp(-((grid - center[:, 1:]) ** 2) / (2 * self.sigma**2))
        return gy[:, :, None] * gx[:, None, :]

    def __getitem__(self, idx):
        results = copy.copy(self.data_list[idx])
        img, keypoints = results["img"], results["keypoints"]
        if not self.test_mode:
            img = img * (0.8 + 0.4 * torch.rand(()))
        return dict(inputs=img, keypoints=keypoints, heatmaps=self.encode(keypoints))


class PoseEstimator(nn.Module):
    def __init__(self, channels, num_stages, num_keypoints):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
        self.stages = nn.ModuleList([self._make_stage(channels) for _ in range(num_stages)])
        self.head = nn.Conv2d(channels, num_keypoints, 1)

    def _make_stage(self, channels):
        return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
                             nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))

    def forward(self, inputs):
        x = self.stem(inputs)
        for stage in self.stages:
            x = F.relu(x + stage(x))
        return self.head(x)

    def loss(self, batch):
        return dict(loss_kpt=10 * F.mse_loss(self(batch["inputs"]), batch["heatmaps"]))

    @torch.no_grad()
    def predict(self, batch, stride):
        heatmaps = self(batch["inputs"])
        n, k, _, w = heatmaps.shape
        index = heatmaps.flatten(2).argmax(-1)
        return torch.stack([index % w, index // w], dim=-1).float() * stride


class Hook:
    def before_train_epoch(self, runner): ...
    def after_train_iter(self, runner): ...
    def after_train_epoch(self, runner): ...


class OptimizerHook(Hook):
    def __init__(self, grad_clip):
        self.grad_clip = grad_clip

    def after_train_iter(self, runner):
        runner.optimizer.zero_grad()
        runner.outputs.backward()
        nn.utils.clip_grad_norm_(runner.model.parameters(), self.grad_clip)
        runner.optimizer.step()


class ParamSchedulerHook(Hook):
    def after_train_epoch(self, runner):
        runner.scheduler.step()


class LoggerHook(Hook):
    def before_train_epoch(self, runner):
        self.history = []

    def after_train_iter(self, runner):
        self.history.append(runner.outputs.detach())

    def after_train_epoch(self, runner):
        print(f"Epoch(train) [{runner.epoch + 1}] loss: {torch.stack(self.history).mean():.4f}")


class CheckpointHook(Hook):
    def __init__(self):
        self.best_pck, self.best_state = None, None

    def after_train_epoch(self, runner):
        pck = runner.val()
        if self.best_pck is None or pck > self.best_pck:
            self.best_pck, self.best_state = pck, copy.deepcopy(runner.model.state_dict())
        print(f"Epoch(val) [{runner.epoch + 1}] PCK: {pck:.4f} best: {self.best_pck:.4f}")


class Runner:
    def __init__(self, model, train_loader, val_loader, cfg):
        self.model, self.train_loader, self.val_loader, self.cfg = model, train_loader, val_loader, cfg
        optimizer, schedule = dict(cfg["optimizer"]), dict(cfg["param_scheduler"])
        self.optimizer = getattr(torch.optim, optimizer.pop("type"))(model.parameters(), **optimizer)
        self.scheduler = getattr(torch.optim.lr_scheduler, schedule.pop("type"))(self.optimizer, **schedule)
        self.checkpoint = CheckpointHook()
        self.hooks = [OptimizerHook(cfg["grad_clip"]), ParamSchedulerHook(), LoggerHook(), self.checkpoint]

    def call_hook(self, name):
        for hook in self.hooks:
            getattr(hook, name)(self)

    def train(self):
        for self.epoch in range(self.cfg["max_epochs"]):
            self.model.train()
            self.call_hook("before_train_epoch")
            for batch in self.train_loader:
                self.outputs = sum(self.model.loss(batch).values())
                self.call_hook("after_train_iter")
            self.call_hook("after_train_epoch")
        self.model.load_state_dict(self.checkpoint.best_state)
        return self.model

    def val(self, threshold=2.0):
        self.model.eval()
        hits, total = 0, 0
        for batch in self.val_loader:
            pred = self.model.predict(batch, self.val_loader.dataset.stride)
            distance = (pred - batch["keypoints"]).norm(dim=-1)
            hits += (distance <= threshold).sum().item()
            total += distance.numel()
        return hits / total


def main():
    torch.manual_seed(0)
    data, codec = cfg["data"], cfg["codec"]
    annotations = make_annotations(data["train_count"] + data["val_count"], data["size"], data["part"], seed=0)
    train_set = PoseDataset(annotations[: data["train_count"]], data["size"], **codec)
    val_set = PoseDataset(annotations[-data["val_count"] :], data["size"], **codec, test_mode=True)
    train_loader = DataLoader(train_set, batch_size=data["batch_size"], shuffle=True)
    val_loader = DataLoader(val_set, batch_size=50)
    runner = Runner(PoseEstimator(**cfg["model"]), train_loader, val_loader, cfg)
    runner.train()
    print(f"final PCK {runner.val():.4f}")


if __name__ == "__main__":
    main()
