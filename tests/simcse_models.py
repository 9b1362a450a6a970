"""A random two-layer BERT with a tokenizer of a few words, and jobs that train it in a second."""

import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

from baselines.simcse.data import DevSet, open_corpus
from baselines.simcse.recipe import Job
from baselines.simcse.settings import SimcseUnsup
from harness.data.records import Pairs
from harness.data.text import open_text
from harness.encoders.checkpoint import load_tokenizer
from harness.encoders.repository import open_checkpoint
from harness.progress import silent

SETTINGS = SimcseUnsup(seed=1, batch_size=8, learning_rate=1e-3, epochs=1.0, max_steps=25, eval_every=10)

WORDS = "the a cat dog bird sees hears likes red old small big house tree river runs sleeps now here there".split()


def random_bert(folder, *, dropout=0.1, seed=0):
    """A checkpoint folder in Hugging Face's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##ing"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForMaskedLM(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "encoder" in name and parameter.ndim == 2:
                    parameter *= 10  # else all sentences have almost the same vector
        model.save_pretrained(folder)
    return open_checkpoint(folder, folder.name)


def sentences(n, seed=0):
    """Sentences of 3 to 9 words, all different but for a few."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 10, (n,), generator=generator).tolist()
    return [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (k,), generator=generator).tolist()) for k in lengths]


def dev_set(tokenizer):
    """Twenty pairs with made-up scores."""
    texts = sentences(40, seed=9)
    return DevSet("made up", Pairs("dev", texts[:20], texts[20:], [float(i % 6) for i in range(20)]), tokenizer, 40)


def make_job(tmp_path, settings=SETTINGS, *, name="run", dev=True, **options):
    """Of sixty sentences, with a backbone of its own."""
    backbone = random_bert(tmp_path / "backbone")
    data = tmp_path / "text.txt"
    data.write_text("\n".join(sentences(60)) + "\n")
    tokenizer = load_tokenizer(backbone)
    return Job(
        settings=settings,
        backbone=backbone,
        corpus=open_corpus(open_text(data), tokenizer, settings, tmp_path / "cache", silent),
        dev=dev_set(tokenizer) if dev else None,
        folder=tmp_path / name,
        **options,
    )
