"""Multi-label tagging of token sequences with an accelerate loop (no_trainer style)."""
import argparse
import math

import numpy as np
import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

PAD, VOCAB, N_TAGS, MAX_LEN = 0, 200, 8, 24


class TaggedTexts(Dataset):
    """A text speaks about one to three topics; most words are common, some belong to its topics."""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        topic_words = np.random.default_rng(5).permutation(np.arange(40, VOCAB)).reshape(N_TAGS, -1)
        self.items = []
        for _ in range(n):
            tags = rng.choice(N_TAGS, rng.integers(1, 4), replace=False)
            length = rng.integers(10, MAX_LEN + 1)
            words = rng.integers(1, 40, length)
            special = rng.permutation(length)[:3 * len(tags)]
            for j, pos in enumerate(special):
                words[pos] = rng.choice(topic_words[tags[j % len(tags)]])
            target = np.zeros(N_TAGS, dtype=np.float32)
            target[tags] = 1.0
            self.items.append((words, target))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        words, target = self.items[i]
        return {"input_ids": torch.from_numpy(words), "labels": torch.from_numpy(target)}


def data_collator(features):
    ids = nn.utils.rnn.pad_sequence([f["input_ids"] for f in features], batch_first=True, padding_value=PAD)
    labels = torch.stack([f["labels"] for f in features])
    return {"input_ids": ids, "attention_mask": ids != PAD, "labels": labels}


class TextEncoder(nn.Module):
    def __init__(self, dim=48, heads=4, layers=1):
        super().__init__()
        self.embeddings = nn.Embedding(VOCAB, dim, padding_idx=PAD)
        self.position = nn.Parameter(0.02 * torch.randn(MAX_LEN, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, 96, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.classifier = nn.Linear(dim, N_TAGS)

    def forward(self, input_ids, attention_mask):
        x = self.embeddings(input_ids) + self.position[:input_ids.size(1)]
        x = self.encoder(x, src_key_padding_mask=~attention_mask)
        mask = attention_mask.unsqueeze(-1).float()
        pooled = (x * mask).sum(1) / mask.sum(1)
        return self.classifier(pooled)


def get_scheduler(optimizer, warmup, total):
    def factor(step):
        if step < warmup:
            return step / max(1, warmup)
        return max(0.0, (total - step) / max(1, total - warmup))
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def f1_scores(preds, refs):
    tp = ((preds == 1) & (refs == 1)).sum(0).float()
    fp = ((preds == 1) & (refs == 0)).sum(0).float()
    fn = ((preds == 0) & (refs == 1)).sum(0).float()
    micro = 2 * tp.sum() / (2 * tp.sum() + fp.sum() + fn.sum()).clamp(min=1)
    macro = (2 * tp / (2 * tp + fp + fn).clamp(min=1)).mean()
    return {"micro_f1": round(micro.item(), 4), "macro_f1": round(macro.item(), 4)}


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--per_device_train_batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=6e-3)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--num_train_epochs", type=int, default=5)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=2)
    parser.add_argument("--num_warmup_steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=17)
    return parser.parse_args()


def main():
    args = parse_args()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)
    set_seed(args.seed)
    train_dataset, eval_dataset = TaggedTexts(2000, seed=0), TaggedTexts(400, seed=1)
    train_dataloader = DataLoader(
        train_dataset, shuffle=True, collate_fn=data_collator, batch_size=args.per_device_train_batch_size)
    eval_dataloader = DataLoader(eval_dataset, collate_fn=data_collator, batch_size=100)
    model = TextEncoder()
    no_decay = ["bias", "norm"]
    grouped = [
        {"params": [p for n, p in model.named_parameters() if not any(nd in n for nd in no_decay)], "weight_decay": args.weight_decay},
        {"params": [p for n, p in model.named_parameters() if any(nd in n for nd in no_decay)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(grouped, lr=args.learning_rate)
    updates = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
    lr_scheduler = get_scheduler(optimizer, args.num_warmup_steps, args.num_train_epochs * updates)
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            with accelerator.accumulate(model):
                logits = model(batch["input_ids"], batch["attention_mask"])
                loss = criterion(logits, batch["labels"])
                total_loss += loss.detach().item()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
        model.eval()
        all_preds, all_refs = [], []
        for batch in eval_dataloader:
            with torch.no_grad():
                logits = model(batch["input_ids"], batch["attention_mask"])
            predictions = (logits.sigmoid() > 0.5).long()
            predictions, references = accelerator.gather_for_metrics((predictions, batch["labels"]))
            all_preds.append(predictions)
            all_refs.append(references)
        metrics = f1_scores(torch.cat(all_preds), torch.cat(all_refs))
        accelerator.print(f"epoch {epoch}: train_loss {total_loss / len(train_dataloader):.4f} {metrics}")


if __name__ == "__main__":
    main()
