"""Keypoints by heatmaps, with a registry, a runner and hooks as MMEngine and MMPose have them."""

import copy

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

cfg = dict(
    seed=7,
    codec=dict(input_size=32, heatmap_size=16, sigma=1.2),
    model=dict(type="HeatmapEstimator", channels=(16, 32, 32), num_keypoints=3),
    train_dataloader=dict(dataset=dict(type="FigureDataset", count=800, seed=1, flip_prob=0.5), batch_size=32),
    val_dataloader=dict(dataset=dict(type="FigureDataset", count=200, seed=2, flip_prob=0.0), batch_size=50),
    optim_wrapper=dict(lr=3e-3, weight_decay=1e-4, max_norm=1.0),
    max_epochs=10, milestones=(7, 9),
)
REGISTRY = {}
def register_module(cls):
    REGISTRY[cls.__name__] = cls
    return cls
def build(options, **extra):
    kwargs = {k: v for k, v in options.items() if k != "type"}
    return REGISTRY[options["type"]](**kwargs, **extra)

class MSRAHeatmap:
    """Encodes points (x, y) of the image as Gaussians of the heatmap, and finds them again."""
    def __init__(self, input_size, heatmap_size, sigma):
        self.heatmap_size, self.sigma = heatmap_size, sigma
        self.scale_factor = input_size / heatmap_size
    def encode(self, keypoints):
        mu = (keypoints + 0.5) / self.scale_factor - 0.5
        grid = torch.arange(self.heatmap_size).float()
        gx = torch.exp(-((grid[None] - mu[:, :1]) ** 2) / (2 * self.sigma**2))
        gy = torch.exp(-((grid[None] - mu[:, 1:]) ** 2) / (2 * self.sigma**2))
        return gy[:, :, None] * gx[:, None, :]
    def decode(self, heatmaps):
        width, index = heatmaps.shape[-1], heatmaps.flatten(2).argmax(2)
        x, y = index % width, index // width
        return (torch.stack([x, y], dim=-1).float() + 0.5) * self.scale_factor - 0.5
@register_module
class FigureDataset(Dataset):
    """A head between a left and a right hand, which look alike."""
    flip_indices = [0, 2, 1]
    def __init__(self, count, seed, flip_prob, codec):
        rng = np.random.default_rng(seed)
        self.codec, self.flip_prob, self.size = codec, flip_prob, 32
        head = np.stack([rng.uniform(11, 20, count), rng.uniform(9, 21, count)], axis=1)
        left = head + np.stack([-rng.uniform(5, 8, count), rng.uniform(-5, 7, count)], axis=1)
        right = head + np.stack([rng.uniform(5, 8, count), rng.uniform(-5, 7, count)], axis=1)
        self.keypoints = torch.from_numpy(np.stack([head, left, right], axis=1)).float()
        y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        sigmas, images = (2.4, 1.3, 1.3), torch.zeros(count, 32, 32)
        for k, sigma in enumerate(sigmas):
            px, py = self.keypoints[:, k, 0].view(-1, 1, 1), self.keypoints[:, k, 1].view(-1, 1, 1)
            images += torch.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
        images += torch.from_numpy(rng.normal(0, 0.1, images.shape)).float()
        self.images = (images / 0.3 - 0.3).unsqueeze(1)
    def __len__(self):
        return len(self.images)
    def __getitem__(self, index):
        image, keypoints = self.images[index], self.keypoints[index].clone()
        if torch.rand(()).item() < self.flip_prob:
            image = image.flip(-1)
            keypoints[:, 0] = self.size - 1 - keypoints[:, 0]
            keypoints = keypoints[self.flip_indices]
        return dict(inputs=image, keypoints=keypoints, heatmaps=self.codec.encode(keypoints))
@register_module
class HeatmapEstimator(nn.Module):
    def __init__(self, channels, num_keypoints):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels[0], 3, 2, 1), nn.BatchNorm2d(channels[0]), nn.ReLU())
        stages = []
        for c_in, c_out in zip(channels[:-1], channels[1:]):
            stages.append(nn.Sequential(nn.Conv2d(c_in, c_out, 5, padding=2), nn.BatchNorm2d(c_out), nn.ReLU()))
        self.stages = nn.ModuleList(stages)
        self.context = nn.Sequential(nn.Conv2d(channels[-1], channels[-1], 5, padding=4, dilation=2), nn.BatchNorm2d(channels[-1]), nn.ReLU())
        self.head = nn.Conv2d(channels[-1], num_keypoints, 1)
    def forward(self, inputs):
        x = self.stem(inputs)
        for stage in self.stages:
            x = stage(x)
        return self.head(x + self.context(x))
    def loss(self, data):
        return ((self(data["inputs"]) - data["heatmaps"]) ** 2).sum(dim=(2, 3)).mean()
    def predict(self, inputs):
        return self(inputs)

class Hook:
    def after_train_iter(self, runner, loss): ...
    def after_train_epoch(self, runner): ...
    def after_val_epoch(self, runner, metrics): ...
class LoggerHook(Hook):
    def __init__(self):
        self.losses = []
    def after_train_iter(self, runner, loss):
        self.losses.append(loss.item())
    def after_val_epoch(self, runner, metrics):
        mean, self.losses = sum(self.losses) / len(self.losses), []
        print(f"Epoch({runner.epoch}) loss: {mean:.4f} NME: {metrics['NME']:.4f} PCK: {metrics['PCK']:.4f}")
class ParamSchedulerHook(Hook):
    def after_train_epoch(self, runner):
        runner.param_scheduler.step()
class CheckpointHook(Hook):
    def __init__(self, save_best, rule):
        self.save_best, self.rule, self.best, self.state = save_best, rule, None, None
    def after_val_epoch(self, runner, metrics):
        score = metrics[self.save_best]
        if self.best is None or (score < self.best if self.rule == "less" else score > self.best):
            self.best, self.state = score, copy.deepcopy(runner.model.state_dict())

class Runner:
    def __init__(self, cfg):
        torch.manual_seed(cfg["seed"])
        self.cfg, self.codec, self.epoch = cfg, MSRAHeatmap(**cfg["codec"]), 0
        self.model = build(cfg["model"])
        self.train_loader = self.build_dataloader(cfg["train_dataloader"], shuffle=True)
        self.val_loader = self.build_dataloader(cfg["val_dataloader"], shuffle=False)
        wrapper, self.max_norm = cfg["optim_wrapper"], cfg["optim_wrapper"]["max_norm"]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=wrapper["lr"], weight_decay=wrapper["weight_decay"])
        self.param_scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, cfg["milestones"], gamma=0.2)
        self.checkpoint = CheckpointHook(save_best="NME", rule="less")
        self.hooks = [LoggerHook(), ParamSchedulerHook(), self.checkpoint]
    def build_dataloader(self, options, shuffle):
        return DataLoader(build(options["dataset"], codec=self.codec), batch_size=options["batch_size"], shuffle=shuffle)
    def call_hook(self, name, **kwargs):
        for hook in self.hooks:
            getattr(hook, name)(self, **kwargs)
    def update_params(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
    @torch.no_grad()
    def val(self):
        self.model.eval()
        distances = []
        for data in self.val_loader:
            points = self.codec.decode(self.model.predict(data["inputs"]))
            distances.append((points - data["keypoints"]).norm(dim=-1))
        distances = torch.cat(distances)
        return dict(NME=distances.mean().item() / 32, PCK=(distances < 2.0).float().mean().item())
    def train(self):
        for self.epoch in range(1, self.cfg["max_epochs"] + 1):
            self.model.train()
            for data in self.train_loader:
                loss = self.model.loss(data)
                self.update_params(loss)
                self.call_hook("after_train_iter", loss=loss)
            self.call_hook("after_train_epoch")
            self.call_hook("after_val_epoch", metrics=self.val())
        self.model.load_state_dict(self.checkpoint.state)
        print("best checkpoint:", self.val())

def main():
    Runner(cfg).train()

if __name__ == "__main__":
    main()
