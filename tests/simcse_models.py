"""A random two-layer BERT with a tokenizer of a few words: training runs in a second."""

import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

from harness.encoders.checkpoint import Checkpoint

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
    return Checkpoint(folder.name, folder)


def sentences(n, seed=0):
    """Sentences of 3 to 9 words, all different but for a few."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 10, (n,), generator=generator).tolist()
    return [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (k,), generator=generator).tolist()) for k in lengths]
