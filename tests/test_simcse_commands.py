"""`bench train` and `bench export`, and what other libraries make of the exported folders."""

import json

import numpy as np
import pytest
import torch
from simcse_models import random_bert, sentences
from transformers import AutoModel, AutoTokenizer
from typer.testing import CliRunner

from harness.cli.main import app
from harness.encoders.context import Context
from harness.encoders.export import export
from harness.encoders.protocol import embed
from harness.encoders.registry import build
from harness.errors import UsageError

TEXTS = ["the cat sees a dog", "a bird", "", "the old tree runs here and there"]
QUICK = ["--batch-size", "8", "--max-steps", "4", "--set", "eval_every=2", "--set", "dev=mini"]


def bench(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def place(tmp_path):
    random_bert(tmp_path / "bert")
    (tmp_path / "text.txt").write_text("\n".join(sentences(40)))
    return tmp_path


def trained(place, method="simcse-unsup", data=None):
    common = [
        "--backbone",
        place / "bert",
        "--data",
        data or place / "text.txt",
        "--cache-dir",
        place / "cache",
        "--json",
    ]
    return ["train", method, *common, *QUICK]


def test_replicates_and_their_spread(place):
    result = bench(*trained(place), "--seeds", "0-2")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    scores = [run["selected"]["dev_spearman"] for run in told["runs"]]
    assert len(set(scores)) == 3
    assert told["dev"]["mean"] == pytest.approx(np.mean(scores))
    assert told["dev"]["sd"] == pytest.approx(np.std(scores, ddof=1))
    assert (told["dev"]["low"], told["dev"]["high"]) == (min(scores), max(scores))
    names = [run["model"] for run in told["runs"]]
    assert [name.count(f"seed={seed}") for seed, name in enumerate(names)] == [1, 1, 1]
    context = Context(cache_dir=place / "cache", offline=True)
    encoder = build(names[2], context)  # what was trained is what a run of that name finds
    assert str(encoder.backbone.checkpoint.folder) == told["runs"][2]["folder"]
    assert encoder.card.name == names[2]


def test_an_output_folder_of_ones_own(place):
    result = bench(*trained(place), "--seeds", 7, "--output", place / "model")
    assert result.exit_code == 0, result.output
    card = json.loads((place / "model" / "card.json").read_text())
    assert card["settings"]["seed"] == 7 and card["settings"]["max_steps"] == 4
    assert {path.name for path in place.iterdir()} == {"bert", "text.txt", "cache", "model"}
    encoder = build(f"hf:{place / 'model'}", Context(cache_dir=place / "cache", offline=True))
    assert encoder.pooling == card["pooling"] == "cls_before_pooler"


def test_dtype_is_that_of_training(place):
    result = bench(*trained(place), "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    (run,) = json.loads(result.stdout)["runs"]
    assert run["settings"]["dtype"] == "bfloat16" and "dtype=bfloat16" in run["model"]


@pytest.mark.parametrize(("option", "value"), [("--batch-size", 0), ("--max-steps", 0)])
def test_numbers_out_of_range(place, option, value):
    """None of them stands for "as published"; the sentence is typer's, and differs from version to version."""
    result = bench(*trained(place), option, value)
    assert result.exit_code == 2
    assert f"'{option}'" in result.stderr
    assert not (place / "cache").exists()


def test_the_help_shows_the_brackets():
    for arguments in (["train", "--help"], ["export", "model", "--help"]):
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
        shown = " ".join(result.stdout.replace("│", " ").split())
        assert ("What to train: simcse-unsup, simcse-sup, or with [parameter=value,...]." in shown) == (
            arguments[0] == "train"
        )
        assert "\\[" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "temperature"], "--set temperature: expected name=value, for instance --set temperature=0.1"),
        (
            ["--seeds", "2-1"],
            "--seeds 2-1: '2-1' counts down; write 1-2",
        ),
        (["--lr", "0"], "model 'simcse-unsup': learning_rate=0.0 is out of range, expected more than 0"),
        (
            ["--epochs", "inf"],
            "model 'simcse-unsup': epochs=inf is out of range, expected more than 0 and 1e+06 or less",
        ),
        (["--dtype", "float16"], "--dtype float16: training runs in float32 or bfloat16; name one of them"),
        (
            ["--set", "weights=released"],
            "simcse-unsup[backbone={place}/bert,weights=released,data={place}/text.txt,dev=mini,batch_size=8,"
            "max_steps=4,eval_every=2]: released weights are not trained here; drop weights=released",
        ),
        (
            ["--output", "{place}/text.txt"],
            "{place}/text.txt: a file, expected a folder for the model; name another with --output",
        ),
        (["--set", "temprature=1"], "model 'simcse-unsup' has no parameter 'temprature'; did you mean 'temperature'?"),
    ],
)
def test_wrong_options(place, arguments, message):
    result = bench(*trained(place), *(text.format(place=place) for text in arguments))
    assert result.exit_code == 2
    assert result.stderr.strip() == f"bench: {message.format(place=place)}"


def test_only_what_has_a_trainer_is_trained(place):
    result = bench(*trained(place, "minilm"))
    assert result.exit_code == 2
    assert result.stderr.strip() == "bench: no trainable model is named 'minilm'; known: simcse-sup, simcse-unsup"


def encoder_of(place, pooling):
    return build(f"hf:{place / 'bert'}[pooling={pooling}]", Context(cache_dir=place / "cache", offline=True))


def with_head(place):
    """The random BERT with a pooler, as a trained folder has one."""
    from safetensors.torch import load_file, save_file
    from transformers import BertConfig, BertModel

    folder = place / "bert"
    torch.manual_seed(1)
    model = BertModel(BertConfig.from_pretrained(folder))
    tensors = {key: value for key, value in load_file(folder / "model.safetensors").items() if key.startswith("bert.")}
    tensors |= {f"bert.pooler.{key}": value * 5 for key, value in model.pooler.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("pooling", ["cls", "cls_before_pooler", "avg"])
def test_sentence_transformers_gives_identical_vectors(place, pooling):
    from sentence_transformers import SentenceTransformer

    with_head(place)
    (place / "bert" / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    encoder = encoder_of(place, pooling)
    folder = export(encoder, place / "out", "sentence-transformers")
    expected = embed(encoder, TEXTS)
    found = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert np.allclose(found, expected, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 0.01
    again = build(f"hf:{folder}", Context(cache_dir=place, offline=True))  # its pooling is declared
    assert np.allclose(embed(again, TEXTS), expected, atol=1e-6)
    readme = (folder / "README.md").read_text()
    assert f"# {encoder.card.name}" in readme and "\nlicense: mit\n" in readme and "- licence: mit\n" in readme


def test_the_hugging_face_folder_has_the_head_as_pooler_or_none(place):
    export(encoder_of(place, "cls_before_pooler"), place / "without", "huggingface")
    assert "pooler" not in (place / "without" / "model.safetensors").read_bytes()[:5000].decode("latin-1")
    with_head(place)
    encoder = encoder_of(place, "cls")
    folder = export(encoder, place / "with", "huggingface")
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        output = AutoModel.from_pretrained(folder).eval()(**tokens).pooler_output
    assert np.allclose(output.numpy(), embed(encoder, TEXTS), atol=1e-6)


def test_what_cannot_be_exported(place):
    encoder = encoder_of(place, "avg_top2")
    with pytest.raises(UsageError) as caught:
        export(encoder, place / "out", "sentence-transformers")
    assert str(caught.value) == (
        f"{encoder.card.name}: sentence-transformers has no pooling avg_top2, expected one of cls, cls_before_pooler, "
        "avg; export with --format huggingface"
    )
    with pytest.raises(UsageError) as caught:
        export(encoder, place / "bert", "huggingface")
    assert str(caught.value) == (
        f"{place / 'bert'}: not empty, expected a new folder to write the model to; name another with --output"
    )
    result = bench("export", "model", "random", "--output", place / "out")
    assert result.exit_code == 2
    assert result.stderr.strip() == (
        "bench: random: cannot be exported, expected an encoder that is one checkpoint with one pooling"
    )


def test_an_exported_folder_has_the_scores_of_the_results_folder(place):
    from huggingface_hub import ModelCard

    name = f"hf:{place / 'bert'}[pooling=cls_before_pooler]"
    where = ["--results-dir", place / "results", "--cache-dir", place / "cache", "--offline", "--quiet"]
    assert bench("run", "--models", name, "--tasks", "mini-sts,mini-mr", *where).exit_code == 0
    done = bench("export", "model", name, "--output", place / "out", *where, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["scores"] == 2
    read = ModelCard.load(place / "out/README.md")
    assert {one.dataset_name for one in read.data.eval_results} == {"mini-sts", "mini-mr"}
    assert read.data.library_name == "sentence-transformers" and "SentenceTransformer(" in read.text
    assert str(place) not in read.content and not (place / "out/.eval_results").exists()  # no benchmark of the hub
    other = bench("export", "model", name, "--output", place / "none", "--results-dir", place / "no", "--json")
    assert json.loads(other.stdout)["scores"] == 0
