"""accelerate: ViT on small images, gradient accumulation, gather_for_metrics."""
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader

from toydata import Shapes

config = {"lr": 2e-3, "num_epochs": 20, "seed": 42, "batch_size": 25, "accum": 2}


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(B, N, C))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(dim), Attention(dim, heads), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.ls1, self.ls2 = nn.Parameter(torch.full((dim,), 0.3)), nn.Parameter(torch.full((dim,), 0.3))

    def forward(self, x):
        x = x + self.ls1 * self.attn(self.norm1(x))
        return x + self.ls2 * self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, dim=48, depth=3, heads=4, patch=4, size=16, classes=6):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, dim) * 0.02)
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def train_collate_fn(examples):
    return collate_fn([(augment(x), y) for x, y in examples])


def augment(x):
    """All six classes keep their name under flips and shifts."""
    if torch.rand(()) < 0.5:
        x = x.flip(-1)
    if torch.rand(()) < 0.5:
        x = x.transpose(-1, -2)
    dy, dx = torch.randint(0, 5, (2,)).tolist()
    return F.pad(x, (2, 2, 2, 2), value=0.5)[:, dy:dy + 16, dx:dx + 16]


def collate_fn(examples):
    pixel_values = torch.stack([e[0] for e in examples])
    return {"pixel_values": (pixel_values - 0.5) / 0.5, "labels": torch.as_tensor([e[1] for e in examples])}


def training_function(config):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config["accum"])
    set_seed(config["seed"])
    train_dataloader = DataLoader(Shapes(True), shuffle=True, collate_fn=train_collate_fn, batch_size=config["batch_size"])
    eval_dataloader = DataLoader(Shapes(False), collate_fn=collate_fn, batch_size=64)
    model = ViT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.05)
    steps = config["num_epochs"] * len(train_dataloader) // config["accum"]
    lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config["lr"], total_steps=steps + 1, pct_start=0.15)
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler)
    for epoch in range(config["num_epochs"]):
        model.train()
        total_loss = 0
        for step, batch in enumerate(train_dataloader):
            with accelerator.accumulate(model):
                outputs = model(batch["pixel_values"])
                loss = F.cross_entropy(outputs, batch["labels"])
                total_loss += loss.detach().float()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
        model.eval()
        accurate, num_elems = 0, 0
        for batch in eval_dataloader:
            with torch.no_grad():
                predictions = model(batch["pixel_values"]).argmax(dim=-1)
            predictions, references = accelerator.gather_for_metrics((predictions, batch["labels"]))
            accurate += (predictions == references).sum().item()
            num_elems += len(references)
        accelerator.print(f"epoch {epoch}: loss {total_loss.item() / len(train_dataloader):.3f} acc {100 * accurate / num_elems:.2f}")


if __name__ == "__main__":
    training_function(config)
