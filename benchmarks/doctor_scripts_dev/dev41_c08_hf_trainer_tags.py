"""Which animals does a document mention? Multi-label classification with a tiny BERT and the Hugging Face Trainer."""

import random
import tempfile

import torch
from sklearn.metrics import f1_score
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from toydata import text

ANIMALS = ["cat", "dog", "bird", "fish"]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]


def make_documents(length, seed):
    """Two or three sentences of the grammar each."""
    sentences = [sentence.strip() for sentence in text(length, seed=seed).split(".\n")[:-1]]
    rng = random.Random(seed)
    documents, start = [], 0
    while start + 3 <= len(sentences):
        stop = start + rng.randint(2, 3)
        documents.append(" . ".join(sentences[start:stop]))
        start = stop
    return documents


class WordTokenizer:
    def __init__(self, documents):
        words = sorted({word for document in documents for word in document.split()})
        self.vocab = {word: i for i, word in enumerate(SPECIAL + words)}

    def __len__(self):
        return len(self.vocab)

    def __call__(self, document):
        unknown = self.vocab["[UNK]"]
        ids = [self.vocab.get(word, unknown) for word in document.split()]
        return [self.vocab["[CLS]"], *ids, self.vocab["[SEP]"]]


class TagDataset(Dataset):
    def __init__(self, documents, tokenizer):
        self.documents, self.tokenizer = documents, tokenizer

    def __len__(self):
        return len(self.documents)

    def __getitem__(self, index):
        document = self.documents[index]
        words = set(document.split())
        return {
            "input_ids": self.tokenizer(document),
            "labels": [float(animal in words) for animal in ANIMALS],
        }


class PadCollator:
    def __init__(self, pad_id):
        self.pad_id = pad_id

    def __call__(self, features):
        longest = max(len(feature["input_ids"]) for feature in features)
        ids = torch.full((len(features), longest), self.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, feature in enumerate(features):
            length = len(feature["input_ids"])
            ids[row, :length] = torch.tensor(feature["input_ids"])
            mask[row, :length] = 1
        labels = torch.tensor([feature["labels"] for feature in features])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def compute_metrics(eval_prediction):
    logits, labels = eval_prediction
    predicted = (logits > 0).astype(int)  # a logit of 0 is a probability of one half
    labels = labels.astype(int)
    return {
        "micro_f1": f1_score(labels, predicted, average="micro"),
        "all_tags_right": float((labels == predicted).all(axis=1).mean()),
    }


def main():
    set_seed(42)
    train_documents = list(dict.fromkeys(make_documents(45000, seed=0)))
    seen = set(train_documents)
    test_documents = [document for document in make_documents(15000, seed=1) if document not in seen]
    tokenizer = WordTokenizer(train_documents)

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=32,
        num_labels=len(ANIMALS),
        id2label=dict(enumerate(ANIMALS)),
        label2id={animal: i for i, animal in enumerate(ANIMALS)},
        problem_type="multi_label_classification",
        pad_token_id=tokenizer.vocab["[PAD]"],
    )
    model = BertForSequenceClassification(config)

    with tempfile.TemporaryDirectory() as output_dir:
        args = TrainingArguments(
            output_dir=output_dir,
            num_train_epochs=8,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=64,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            warmup_steps=40,
            weight_decay=0.01,
            max_grad_norm=1.0,
            logging_steps=50,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=42,
        )
        trainer = Trainer(
            model=model,
            args=args,
            data_collator=PadCollator(tokenizer.vocab["[PAD]"]),
            train_dataset=TagDataset(train_documents, tokenizer),
            eval_dataset=TagDataset(test_documents, tokenizer),
            compute_metrics=compute_metrics,
        )
        print("before training:", trainer.evaluate())
        trainer.train()
        print("after training:", trainer.evaluate())


if __name__ == "__main__":
    main()
