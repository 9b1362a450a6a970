"""bert-whitening and bert-flow as encoders: what they are fitted on, how often, what is kept on disk, bad input."""

import logging
import shutil
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from conftest import make_bert
from safetensors.numpy import load_file

from baselines import fits
from baselines.flow import FlowSettings, fit_flow
from baselines.whitening import fit_whitening
from harness import run as running
from harness.data.locate import BUNDLED
from harness.data.named_texts import find_text
from harness.encoders import transformer
from harness.encoders.context import Context
from harness.encoders.protocol import Transductive, embed
from harness.encoders.registry import build, resolve
from harness.errors import DataError, EncoderError, UsageError
from harness.tasks.suites import TASKS

MINI = TASKS["mini-sts"]
TEXTS = ["a man is playing the guitar", "a dog runs", "nobody looks up", "it rains in the park"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return trained(make_bert(tmp_path_factory.mktemp("bert")))


def trained(folder):
    """With LayerNorms that differ from layer to layer, as training leaves them: else one dimension is empty."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    generator = torch.Generator().manual_seed(0)
    for name, value in tensors.items():
        if name.endswith("LayerNorm.weight"):
            tensors[name] = torch.rand(value.shape, generator=generator) + 0.5
    save_file(tensors, path, {"format": "pt"})
    return folder


@pytest.fixture
def context(tmp_path, folder):
    return Context(cache_dir=tmp_path / "cache", backbone=str(folder), offline=True)


@pytest.fixture
def forwards(monkeypatch):
    """Counts the sentences that go through a backbone without dropout."""
    counted = Counter()
    pooled = transformer.Backbone.pooled

    def counting(self, texts, *others):
        counted["sentences"] += len(texts)
        return pooled(self, texts, *others)

    monkeypatch.setattr(transformer.Backbone, "pooled", counting)
    return counted


def base_vectors(texts, context, pooling="avg_first_last"):
    name = f"hf:{context.backbone}[pooling={pooling},max_tokens=64]"
    return embed(build(name, context), list(texts))


def corpus(name, context):
    return list(find_text(name, context).sentences())


def fit_files(context):
    return sorted((context.cache_dir / "fits").glob("*"))


@pytest.mark.parametrize("dim", [0, 5])
def test_whitening_is_the_fit_by_hand(context, dim):
    encoder = build(f"bert-whitening[fit=mini-nli,dim={dim or 'none'}]", context)
    whitening = fit_whitening([base_vectors(corpus("mini-nli", context), context)], dim or None)
    expected = whitening.transform(base_vectors(TEXTS, context))
    assert embed(encoder, TEXTS) == pytest.approx(expected, abs=1e-4)  # batches differ, and whitening magnifies that
    assert encoder.card.dim == (dim or 16)


def test_flow_is_the_fit_by_hand(context):
    encoder = build("bert-flow[fit=mini-nli,dropout=false,epochs=2,seed=7]", context)
    x = base_vectors(corpus("mini-nli", context), context)
    settings = FlowSettings(pairs=True, epochs=2, seed=7)
    expected = fit_flow(x, settings).transform(base_vectors(TEXTS, context))
    assert embed(encoder, TEXTS) == pytest.approx(expected, abs=1e-3)


def test_defaults_are_the_published_code(context):
    card = build("bert-flow[fit=mini-nli]", context).card
    assert card.pooling == "avg_first_last"
    assert card.max_tokens == 64
    assert (card.seed, card.parameters["ddi"], card.parameters["dropout"]) == (1234, False, True)


def test_the_card_names_the_text_and_the_weights(context):
    plain = build(f"bert[pooling=avg_first_last,backbone={context.backbone}]", context).card
    for name in ("bert-whitening[fit=mini-wiki]", "bert-flow[fit=mini-wiki]"):
        card = build(name, context).card
        assert card.fitted_on == find_text("mini-wiki", context).name
        assert (card.weights_sha256, card.backbone) == (plain.weights_sha256, plain.backbone)
        assert card.name == name.replace("[", f"[backbone={plain.parameters['backbone']},")
    assert build("bert-whitening[fit=target]", context).card.fitted_on == "target"


@pytest.mark.parametrize("name", ["bert-whitening[fit=target]", "bert-flow[fit=target,dropout=false]"])
def test_target_is_fitted_on_the_task_and_marked(context, tmp_path, name):
    encoder = build(name, context)
    assert isinstance(encoder, Transductive)
    one, other = (encoder.fit_target(corpus(text, context)) for text in ("mini-nli", "mini-wiki"))
    assert one.card == encoder.card
    assert not np.allclose(embed(one, TEXTS), embed(other, TEXTS), atol=1e-2)
    plan = running.Plan(
        models=[resolve(name, context)],
        tasks=[MINI],
        results_dir=tmp_path / "results",
        context=replace(context, data_dir=BUNDLED),
    )
    (cell,) = running.run(plan)
    assert cell.result.flags == (running.FITTED_ON_TARGET,)
    assert cell.result.encoder.fitted_on == "target"


def test_target_whitening_by_hand(context):
    encoder = build("bert-whitening[fit=target]", context).fit_target(MINI.prepare(BUNDLED).target)
    x = base_vectors(MINI.prepare(BUNDLED).target, context)
    assert np.cov(embed(encoder, MINI.prepare(BUNDLED).target).T) == pytest.approx(np.eye(16), abs=1e-3)
    assert len(x) == 2 * MINI.prepare(BUNDLED).score(encoder, context).counts["pairs"]


@pytest.mark.parametrize("name", ["bert-whitening[fit=mini-nli]", "bert-flow[fit=mini-nli]"])
def test_nothing_is_fitted_before_the_first_sentence_and_never_twice(context, monkeypatch, forwards, name):
    first = build(name, context)
    assert not fit_files(context)
    x = embed(first, TEXTS)
    assert [path.suffixes for path in fit_files(context)] == [[".safetensors"]]
    forwards.clear()
    for work in ("fit_whitening", "fit_flow", "_blocks"):
        monkeypatch.delattr(fits, work)
    assert np.array_equal(embed(build(name, context), TEXTS), x)
    assert not forwards


def test_other_text_settings_or_weights_are_another_fit(context, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(corpus("mini-nli", context)))
    names = ["bert-whitening[fit=mini-nli]", "bert-whitening[fit=mini-nli,dim=4]", f"bert-whitening[fit={path}]"]
    for name, fits_so_far in zip(names, (1, 2, 2), strict=True):  # the file holds the sentences that were fitted on
        embed(build(name, context), TEXTS)
        assert len(fit_files(context)) == fits_so_far
    path.write_text(path.read_text().replace("the", "this"))
    embed(build(names[-1], context), TEXTS)
    assert len(fit_files(context)) == 3
    path.write_text(path.read_text().replace("The", "A"))
    embed(build(names[-1], context), TEXTS)
    assert len(fit_files(context)) == 4
    other = trained(make_bert(tmp_path / "other", seed=1))
    embed(build(f"bert-whitening[fit=mini-nli,backbone={other}]", context), TEXTS)
    assert len(fit_files(context)) == 5


@pytest.mark.parametrize("name", ["bert-whitening[fit=mini-nli]", "bert-flow[fit=mini-nli,dropout=false]"])
@pytest.mark.parametrize("share", [0.2, 0.6, None])
def test_a_damaged_fit_is_named_and_made_anew(context, caplog, name, share):
    x = embed(build(name, context), TEXTS)
    (path,) = fit_files(context)
    whole = path.read_bytes()
    content = bytearray(whole)
    if share is None:
        del content[100:]
    else:
        start = int(len(content) * share)
        content[start : start + 64] = bytes(64)
    path.write_bytes(content)
    assert np.array_equal(embed(build(name, context), TEXTS), x)
    assert [message.partition(" (")[0] for message in caplog.messages] == [f"{path}: cannot be used"]
    assert path.read_bytes() == whole


def test_a_fit_of_another_backbone_is_not_taken(context, tmp_path, caplog):
    name = "bert-whitening[fit=mini-nli]"
    embed(build(name, context), TEXTS)
    (path,) = fit_files(context)
    other = trained(make_bert(tmp_path / "other", seed=1))
    changed = Context(cache_dir=tmp_path / "changed", backbone=str(other), offline=True)
    x = embed(build(name, changed), TEXTS)
    (place,) = fit_files(changed)
    place.write_bytes(path.read_bytes())
    assert np.array_equal(embed(build(name, changed), TEXTS), x)
    assert caplog.messages == [f"{place}: cannot be used (it was stored under another key); it is made anew"]


@pytest.mark.parametrize("name", ["bert-whitening[fit=mini-nli]", "bert-flow[fit=mini-nli,dropout=false]"])
def test_a_cache_that_refuses_costs_time_and_no_vector(context, tmp_path, name):
    x = embed(build(name, context), TEXTS)
    blocked = Context(cache_dir=tmp_path / "file", backbone=context.backbone, offline=True)
    blocked.cache_dir.write_text("no folder")
    assert np.array_equal(embed(build(name, blocked), TEXTS), x)


def test_a_text_that_changes_while_it_is_read_is_not_fitted_on(context, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(corpus("mini-nli", context)))
    encoder = build(f"bert-whitening[fit={path}]", context)
    path.write_text("\n".join(corpus("mini-wiki", context)))
    with pytest.raises(DataError) as caught:
        embed(encoder, TEXTS)
    assert str(caught.value) == "the text to fit on changed while it was read, expected it as it was; run again"
    assert not fit_files(context)


def test_a_path_becomes_a_name_by_content_that_can_be_used(context, tmp_path):
    path = tmp_path / "my text.csv"
    path.write_text("text\n" + "\n".join(f'"{text}"' for text in corpus("mini-nli", context)))
    card = build(f"bert-whitening[backbone={context.backbone},fit={path},dim=4]", context).card
    shown = f"my text.csv@{find_text(str(path), context).digest[:12]}"
    assert (card.parameters["fit"], card.fitted_on) == (shown, shown)
    assert "/" not in card.name
    assert build(card.name, context).card == card
    path.write_text("text\nother\n")
    with pytest.raises(DataError, match=r"get the file back, or name a file$"):
        build(card.name, context)


def test_the_first_sentences_of_a_text_alone(context, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(corpus("mini-nli", context)[:300]))
    first, file = (build(f"bert-whitening[fit={text}]", context) for text in ("mini-nli,sentences=300", f"{path}"))
    assert np.array_equal(embed(first, TEXTS), embed(file, TEXTS))
    assert first.card.identity == file.card.identity != build("bert-whitening[fit=mini-nli]", context).card.identity
    with pytest.raises(UsageError, match=r"sentences=300, expected none with fit=target"):
        build("bert-whitening[fit=target,sentences=300]", context)


def test_the_identity_is_the_content_and_no_path(context, tmp_path):
    copy = tmp_path / "elsewhere" / "bert"
    shutil.copytree(context.backbone, copy)
    for name in ("bert-whitening[fit=mini-nli,dim=4]", "bert-flow[fit=mini-nli]", "bert-whitening[fit=target]"):
        here = build(name, context).card
        there = build(name.replace("[", f"[backbone={copy},"), context).card
        assert here.name != there.name
        assert here.identity == there.identity
        assert here.identity != build(name.replace("[", "[pooling=avg,"), context).card.identity


def test_dropout_is_on_while_fitting_and_off_afterwards(context, forwards, caplog):
    caplog.set_level(logging.INFO, "baselines.fits")
    on, again, off = (
        embed(build(f"bert-flow[fit=mini-nli,dropout={dropout}]", c), TEXTS)
        for dropout, c in (
            ("true", context),
            ("true", Context(cache_dir=context.cache_dir / "again", backbone=context.backbone, offline=True)),
            ("false", context),
        )
    )
    assert np.array_equal(on, again)
    assert not np.allclose(on, off, atol=1e-2)
    assert [line.split(": ")[1].split(", ")[0] for line in caplog.messages] == ["step 15 of 15"] * 3


def test_dropout_vectors_are_those_of_the_encoder_with_dropout(context):
    base = build(f"hf:{context.backbone}[pooling=avg_first_last,max_tokens=64]", context)
    vectors = fits.DropoutVectors(base, TEXTS * 40, context)
    rows = np.arange(160)
    torch.manual_seed(0)
    first = vectors[rows]
    assert not np.allclose(first, vectors[rows])
    torch.manual_seed(0)
    assert np.array_equal(vectors[rows], first)
    assert len({tuple(row) for row in first[::4].tolist()}) == 40  # one sentence, another mask each time
    vectors._loaded.model.eval()
    assert vectors[rows] == pytest.approx(embed(base, TEXTS * 40), abs=1e-5)


@pytest.mark.parametrize("dropout", ["true", "false"])
def test_a_flow_goes_on_after_an_interruption(context, tmp_path, monkeypatch, dropout):
    name = f"bert-flow[fit=mini-nli,dropout={dropout},levels=1,epochs=0.4,batch=4]"  # 102 steps, a checkpoint at 100
    whole = Context(cache_dir=tmp_path / "whole", backbone=context.backbone, offline=True)
    expected = embed(build(name, whole), TEXTS)

    def interrupt(what, done, total, *_):
        if what == "fitting" and done == 101:
            raise KeyboardInterrupt

    steps = []
    stopped = Context(cache_dir=context.cache_dir, backbone=context.backbone, offline=True, progress=interrupt)
    resumed = Context(
        cache_dir=context.cache_dir,
        backbone=context.backbone,
        offline=True,
        progress=lambda what, done, total, *_: steps.append((done, total)) if what == "fitting" else None,
    )
    with pytest.raises(KeyboardInterrupt):
        embed(build(name, stopped), TEXTS)
    assert [path.suffixes for path in fit_files(context)] == [[".checkpoint", ".safetensors"]]
    assert np.array_equal(embed(build(name, resumed), TEXTS), expected)
    assert (steps[0], steps[-1]) == ((101, 102), (102, 102))
    assert [path.suffixes for path in fit_files(context)] == [[".safetensors"]]


def test_architecture_and_seed_reach_the_flow(context):
    chosen = "levels=2,depth=1,width=8,coupling=affine,permutation=learned"
    encoder = build(f"bert-flow[fit=mini-nli,dropout=false,seed=3,{chosen}]", context)
    embed(encoder, TEXTS)
    (path,) = fit_files(context)
    assert len(load_file(path)) == 32
    parameters = encoder.card.parameters
    assert chosen == ",".join(f"{key}={parameters[key]}" for key in ("levels", "depth", "width", "coupling",
                                                                     "permutation"))  # fmt: skip
    assert encoder.card.seed == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert-whitening[dim=17,fit=target]", "{}: dim=17, expected 1 to the backbone's 16, or none for all of them"),
        ("bert-flow[batch=7,fit=target]", "{}: batch=7, expected an even number: a step takes as many of both sides"),
        (
            "bert-flow[levels=5,fit=target]",
            "flow: vectors of 16 numbers cannot be halved 5 times, expected a multiple of 32; choose fewer levels",
        ),
    ],
)
def test_impossible_settings_are_refused_before_any_work(context, name, message):
    shown = name.replace("fit=target,", "").replace(",fit=target", "").partition("[")
    with pytest.raises(UsageError) as caught:
        build(name, context)
    full = f"{shown[0]}[backbone={context.backbone},fit=target,{shown[2]}"
    assert str(caught.value) == message.format(full)


def test_too_few_sentences(context, tmp_path):
    path = tmp_path / "few.txt"
    path.write_text("\n".join(TEXTS))
    with pytest.raises(EncoderError) as caught:
        embed(build(f"bert-whitening[fit={path}]", context), TEXTS)
    assert str(caught.value) == (
        "whitening: the 4 vectors to fit on have rank 3, expected at least the 16 of the 16 dimensions to keep; set "
        "dim=3 or less, or fit on more sentences"
    )
    for dropout in ("true", "false"):
        with pytest.raises(EncoderError) as caught:
            embed(build(f"bert-flow[fit={path},dropout={dropout}]", context), TEXTS)
        assert str(caught.value) == (
            "flow: 4 vectors make no step of 64 in 1 epochs, expected at least one; fit on more sentences or for more "
            "epochs"
        )


def test_any_text_and_an_sbert_folder(context, tmp_path):
    """A folder that declares another pooling: the method's own counts, as for a plain backbone."""
    folder = trained(make_bert(tmp_path / "sbert"))
    (folder / "modules.json").write_text(
        '[{"path": "", "type": "sentence_transformers.models.Transformer"},'
        ' {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]'
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    encoder = build(f"bert-whitening[fit=mini-wiki,backbone={folder}]", context)
    plain = build("bert-whitening[fit=mini-wiki]", context)
    assert encoder.card.pooling == "avg_first_last"
    assert embed(encoder, TEXTS) == pytest.approx(embed(plain, TEXTS), abs=1e-5)  # the same random weights
    assert asdict(encoder.card)["weights_sha256"] == plain.card.weights_sha256
