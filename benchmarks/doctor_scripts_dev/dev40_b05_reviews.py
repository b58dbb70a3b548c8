"""Good or bad? A small transformer encoder reads restaurant reviews. After Accelerate's `run_glue_no_trainer.py`."""
import argparse
import random

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader

SUBJECTS = ["food", "soup", "service", "music", "wine", "bread", "table", "waiter"]
GOOD = ["good", "great", "lovely", "fine", "superb"]
BAD = ["bad", "awful", "poor", "dull", "horrid"]
PLAIN = ["very", "quite", "really", "always"]
DENYING = ["not", "never", "hardly"]
MAX_LENGTH = 20
PAD, UNK = 0, 1


def write_reviews(rng, positive, count):
    """Different reviews of one to three clauses, all of one opinion; some deny the contrary."""
    reviews = {}
    while len(reviews) < count:
        clauses = []
        for _ in range(rng.randint(1, 3)):
            denied = rng.random() < 0.4
            adverb = rng.choice(DENYING if denied else PLAIN)
            adjective = rng.choice(GOOD if positive != denied else BAD)
            clauses.append(f"the {rng.choice(SUBJECTS)} was {adverb} {adjective}")
        reviews[" and ".join(clauses) + rng.choice([" .", " !"])] = int(positive)
    return list(reviews.items())


class Tokenizer:
    def __init__(self, texts):
        words = sorted({word for text in texts for word in text.split()})
        self.vocab = {word: number for number, word in enumerate(words, start=2)}

    def __len__(self):
        return len(self.vocab) + 2

    def __call__(self, text):
        ids = [self.vocab.get(word, UNK) for word in text.split()][:MAX_LENGTH]
        return ids + [PAD] * (MAX_LENGTH - len(ids))


class ReviewClassifier(nn.Module):
    def __init__(self, vocab_size, hidden_size=48, num_heads=4, num_layers=2, num_labels=2):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, hidden_size, padding_idx=PAD)
        self.position_embeddings = nn.Embedding(MAX_LENGTH, hidden_size)
        layer = nn.TransformerEncoderLayer(
            hidden_size, num_heads, dim_feedforward=2 * hidden_size, dropout=0.1, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, norm=nn.LayerNorm(hidden_size), enable_nested_tensor=False)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(hidden_size, num_labels)

    def forward(self, input_ids, attention_mask):
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        hidden = self.encoder(hidden, src_key_padding_mask=~attention_mask)
        weights = attention_mask.unsqueeze(-1).float()
        pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return self.classifier(self.dropout(pooled))


def linear_with_warmup(optimizer, num_warmup_steps, num_training_steps):
    def factor(step):
        if step < num_warmup_steps:
            return (step + 1) / num_warmup_steps
        return max(0.0, (num_training_steps - step) / max(1, num_training_steps - num_warmup_steps))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def evaluate(accelerator, model, eval_dataloader):
    model.eval()
    hits, seen = 0, 0
    for batch in eval_dataloader:
        with torch.no_grad():
            logits = model(batch["input_ids"], batch["attention_mask"])
        predictions, references = accelerator.gather_for_metrics((logits.argmax(dim=-1), batch["labels"]))
        hits += (predictions == references).sum().item()
        seen += len(references)
    return hits / seen


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--per_device_train_batch_size", type=int, default=32)
    parser.add_argument("--per_device_eval_batch_size", type=int, default=100)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--num_train_epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=3)
    return parser.parse_args()


def main():
    args = parse_args()
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)

    rng = random.Random(args.seed)
    positives, negatives = write_reviews(rng, True, 750), write_reviews(rng, False, 750)
    train_dataset = positives[:600] + negatives[:600]
    eval_dataset = positives[600:] + negatives[600:]
    tokenizer = Tokenizer([text for text, _ in train_dataset])

    def collate(examples):
        input_ids = torch.tensor([tokenizer(text) for text, _ in examples])
        labels = torch.tensor([label for _, label in examples])
        return {"input_ids": input_ids, "attention_mask": input_ids != PAD, "labels": labels}

    train_dataloader = DataLoader(
        train_dataset, shuffle=True, collate_fn=collate, batch_size=args.per_device_train_batch_size
    )
    eval_dataloader = DataLoader(eval_dataset, collate_fn=collate, batch_size=args.per_device_eval_batch_size)

    model = ReviewClassifier(len(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    max_train_steps = args.num_train_epochs * len(train_dataloader)
    lr_scheduler = linear_with_warmup(optimizer, max(1, max_train_steps // 10), max_train_steps)
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            logits = model(batch["input_ids"], batch["attention_mask"])
            loss = F.cross_entropy(logits, batch["labels"])
            total_loss += loss.detach().float()
            accelerator.backward(loss)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
        accuracy = evaluate(accelerator, model, eval_dataloader)
        accelerator.print(f"epoch {epoch}: loss {total_loss.item() / len(train_dataloader):.4f}  accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
