"""Topic classification of short news with a small BERT, trained from scratch with the Hugging Face Trainer."""

import random
import tempfile
from collections import Counter

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

PAD, UNK, CLS = 0, 1, 2
MAX_LENGTH = 48
TOPICS = {
    "business": "market shares bank profit merger stocks revenue deal investors trade budget prices growth loans",
    "science": "study cells planet research energy species telescope vaccine genome climate robot lab particle data",
    "sports": "match goal coach season league striker title injury final tournament score penalty team medal",
    "world": "minister election border treaty protest embassy president parliament refugees summit vote army crisis aid",
}
COMMON = (
    "the a of in on to and for with after before new says said year week over more than first last two many people "
    "day report today plan could would from about against under while against its their has have is are was were"
).split()


def make_corpus(count, seed):
    """Articles of 6 to 45 words: common words, a few words of the topic, now and then words of other topics."""
    rng = random.Random(seed)
    names = list(TOPICS)
    articles = []
    for _ in range(count):
        topic = rng.choice(names)
        words = []
        for _ in range(rng.randint(6, 45)):
            draw = rng.random()
            if draw < 0.22:
                words.append(rng.choice(TOPICS[topic].split()))
            elif draw < 0.30:
                words.append(rng.choice(TOPICS[rng.choice(names)].split()))
            else:
                words.append(rng.choice(COMMON))
        articles.append({"text": " ".join(words), "topic": topic})
    return articles


def build_vocab(articles, min_count=2):
    counts = Counter(word for article in articles for word in article["text"].split())
    words = sorted(word for word, count in counts.items() if count >= min_count)
    return {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]"] + words)}


class NewsDataset(Dataset):
    def __init__(self, articles, vocab, label2id):
        self.articles, self.vocab = articles, vocab
        self.label2id = label2id

    def __len__(self):
        return len(self.articles)

    def __getitem__(self, index):
        article = self.articles[index]
        ids = [CLS] + [self.vocab.get(word, UNK) for word in article["text"].split()]
        return {"input_ids": ids[:MAX_LENGTH], "label": self.label2id[article["topic"]]}


def collate(examples):
    input_ids = torch.full((len(examples), MAX_LENGTH), PAD)
    for row, example in zip(input_ids, examples):
        row[: len(example["input_ids"])] = torch.tensor(example["input_ids"])
    attention_mask = (input_ids != PAD).long()
    labels = torch.tensor([example["label"] for example in examples])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return {
        "accuracy": accuracy_score(labels, predictions),
        "macro_f1": f1_score(labels, predictions, average="macro"),
    }


def main():
    set_seed(11)
    train_articles, val_articles, test_articles = (make_corpus(n, s) for n, s in ((1800, 1), (400, 2), (400, 3)))
    vocab = build_vocab(train_articles)
    label2id = {topic: i for i, topic in enumerate(sorted(TOPICS))}
    train_dataset = NewsDataset(train_articles, vocab, label2id)
    val_dataset = NewsDataset(val_articles, vocab, label2id)
    test_dataset = NewsDataset(test_articles, vocab, label2id)

    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=MAX_LENGTH,
        num_labels=len(label2id),
        pad_token_id=PAD,
    )
    model = BertForSequenceClassification(config)

    with tempfile.TemporaryDirectory() as output_dir:
        training_args = TrainingArguments(
            output_dir=output_dir,
            num_train_epochs=4,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            learning_rate=1e-3,
            weight_decay=0.01,
            warmup_steps=30,
            eval_strategy="epoch",
            save_strategy="epoch",
            logging_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            greater_is_better=True,
            save_total_limit=2,
            dataloader_pin_memory=False,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            seed=11,
        )
        trainer = Trainer(
            model=model,
            args=training_args,
            train_dataset=train_dataset,
            eval_dataset=val_dataset,
            data_collator=collate,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        metrics = trainer.evaluate(test_dataset, metric_key_prefix="test")
    print(f"test accuracy {metrics['test_accuracy']:.4f}  macro F1 {metrics['test_macro_f1']:.4f}")


if __name__ == "__main__":
    main()
