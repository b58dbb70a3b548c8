"""In the idiom of the tutorial for DistributedDataParallel with a Trainer class: ranks, a distributed sampler, snapshots."""

import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from toydata import waves
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def ddp_setup(rank, world_size):
    os.environ.setdefault("MASTER_ADDR", "localhost")
    os.environ.setdefault("MASTER_PORT", "0")
    dist.init_process_group("gloo", rank=rank, world_size=world_size, store=dist.HashStore())


class Trainer:
    def __init__(self, model, train_data, valid_data, optimizer, scheduler, rank, save_every):
        self.rank, self.train_data, self.valid_data, self.save_every = rank, train_data, valid_data, save_every
        self.optimizer, self.scheduler = optimizer, scheduler
        self.model = DDP(model)
        self.snapshot = None

    def _run_batch(self, source, targets):
        self.optimizer.zero_grad()
        output = self.model(source)
        loss = F.cross_entropy(output, targets)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _run_epoch(self, epoch):
        self.model.train()
        self.train_data.sampler.set_epoch(epoch)
        for source, targets in self.train_data:
            loss = self._run_batch(source, targets)
        print(f"[rank {self.rank}] Epoch {epoch} | Steps: {len(self.train_data)} | loss {loss:.3f}")

    def _validate(self):
        self.model.eval()
        hits = seen = 0
        with torch.no_grad():
            for source, targets in self.valid_data:
                hits += (self.model(source).argmax(-1) == targets).sum().item()
                seen += len(targets)
        return hits / seen

    def train(self, max_epochs):
        for epoch in range(max_epochs):
            self._run_epoch(epoch)
            self.scheduler.step()
            print("valid", self._validate())
            if self.rank == 0 and epoch % self.save_every == 0:
                self.snapshot = {k: v.clone() for k, v in self.model.module.state_dict().items()}


class WaveNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 16, 9, padding=4), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool1d(2),
                                  nn.Conv1d(16, 32, 7, padding=3), nn.GroupNorm(4, 32), nn.ReLU(), nn.AdaptiveAvgPool1d(4))  # fmt: skip
        self.head = nn.Linear(128, 4)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


def prepare(dataset, batch_size, sampler=None):
    return DataLoader(dataset, batch_size=batch_size, pin_memory=False, shuffle=False, sampler=sampler)


def main(rank, world_size, total_epochs, batch_size):
    ddp_setup(rank, world_size)
    torch.manual_seed(17)
    x, y = waves(640, seed=2)
    xv, yv = waves(200, seed=9)
    train_set, valid_set = TensorDataset(x, y), TensorDataset(xv, yv)
    train_data = prepare(train_set, batch_size, DistributedSampler(train_set, world_size, rank))
    valid_data = prepare(valid_set, 100)
    model = WaveNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    Trainer(model, train_data, valid_data, optimizer, scheduler, rank, 2).train(total_epochs)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(0, 1, 6, 32)
