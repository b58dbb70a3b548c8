"""Lightning with manual optimization: two tasks on shapes (name and mask area) with learned uncertainty weights."""
import torch
import torch.nn as nn
import torch.nn.functional as F
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class NameAndArea(Dataset):
    def __init__(self, train):
        self.shapes = Shapes(train=train, count=1200 if train else 240)
        area = torch.tensor([(m > 0).float().mean().item() for m in self.shapes.masks])
        self.area = (area - 0.18) / 0.08

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, i):
        image, name = self.shapes[i]
        return {"image": image, "name": name, "area": self.area[i]}


class MultiTask(pl.LightningModule):
    def __init__(self, lr=2e-3, weight_lr=3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.shared = nn.Sequential(
            nn.Conv2d(3, 24, 5, padding=2), nn.InstanceNorm2d(24, affine=True), nn.GELU(), nn.AvgPool2d(2),
            nn.Conv2d(24, 64, 5, padding=2), nn.InstanceNorm2d(64, affine=True), nn.GELU(),
        )
        self.name_head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 6))
        self.area_head = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(1024, 48), nn.GELU(), nn.Linear(48, 1))
        self.log_variance = nn.Parameter(torch.zeros(2))  # Kendall et al. 2018
        self.results = []

    def forward(self, image):
        h = self.shared(image - 0.5)
        return self.name_head(h), self.area_head(h).squeeze(-1)

    def task_losses(self, batch):
        logits, area = self(batch["image"])
        return torch.stack([F.cross_entropy(logits, batch["name"]), F.mse_loss(area, batch["area"])]), logits, area

    def training_step(self, batch, batch_idx):
        net_opt, weight_opt = self.optimizers()
        losses, _, _ = self.task_losses(batch)
        total = (losses * torch.exp(-self.log_variance) + 0.5 * self.log_variance).sum()
        net_opt.zero_grad()
        weight_opt.zero_grad()
        self.manual_backward(total)
        self.clip_gradients(net_opt, gradient_clip_val=2.0, gradient_clip_algorithm="norm")
        net_opt.step()
        weight_opt.step()
        self.log_dict({"ce": losses[0], "mse": losses[1]}, on_step=False, on_epoch=True)

    def on_train_epoch_end(self):
        scheduler = self.lr_schedulers()
        scheduler.step()

    def validation_step(self, batch, batch_idx):
        _, logits, area = self.task_losses(batch)
        self.results.append(torch.stack([(logits.argmax(1) == batch["name"]).float(), (area - batch["area"]) ** 2], 1))

    def on_validation_epoch_end(self):
        accuracy, error = torch.cat(self.results).mean(0).tolist()
        self.results.clear()
        if not self.trainer.sanity_checking:
            self.log_dict({"val_acc": accuracy, "val_r2": 1 - error / self.trainer.val_dataloaders.dataset.area.var().item()})
            weights = torch.exp(-self.log_variance).tolist()
            print(f"epoch {self.current_epoch:2d}: name accuracy {accuracy:.3f}, area mse {error:.4f}, weights {weights[0]:.2f} {weights[1]:.2f}")

    def configure_optimizers(self):
        heads_and_body = [p for n, p in self.named_parameters() if n != "log_variance"]
        net_opt = torch.optim.AdamW(heads_and_body, lr=self.hparams.lr, weight_decay=1e-3)
        weight_opt = torch.optim.Adam([self.log_variance], lr=self.hparams.weight_lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(net_opt, T_max=self.trainer.max_epochs, eta_min=1e-5)
        return [net_opt, weight_opt], [scheduler]


def cli_main():
    pl.seed_everything(20)
    trainer = pl.Trainer(
        max_epochs=10, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(
        MultiTask(),
        DataLoader(NameAndArea(True), batch_size=30, shuffle=True),
        DataLoader(NameAndArea(False), batch_size=80),
    )
    print({k: round(v.item(), 4) for k, v in trainer.callback_metrics.items()})


if __name__ == "__main__":
    cli_main()
