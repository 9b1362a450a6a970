"""`import harness`: evaluate anything, read results, nothing written that was not asked for."""

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

import harness
from harness.errors import EncoderError, UsageError

TEXTS = ["a cat sits", "a dog runs", "the cat runs", "a bird sings", "the dog sits", "a cat sings"]


def letters(texts):
    """Counts of letters: a function is an encoder."""
    return [[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


def test_a_specification_is_scored_and_looked_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = harness.evaluate("bag-of-words[dim=64]", tasks="mini-sts", offline=True)
    assert results["mini-sts"].spearman == results["mini-sts"].scores["spearman/all/test"]
    assert -1 < results["mini-sts"].pearson < 1
    with pytest.raises(AttributeError, match="mini-sts has no accuracy"):
        _ = results["mini-sts"].accuracy
    assert results.encoders == ("bag-of-words[dim=64]",)
    assert "bag-of-words" in results._repr_html_()
    assert not list(tmp_path.iterdir())  # nothing is written that was not asked for


def test_the_frame_has_a_row_per_score():
    results = harness.evaluate(["random", "bag-of-words"], tasks=["mini-sts"], offline=True)
    frame = results.frame()
    main = frame[frame.main].set_index("encoder")
    assert list(main.index) == ["random", "bag-of-words"]
    assert main.loc["random", "score"] == results["random", "mini-sts"].score
    assert {"spearman", "pearson"} <= set(frame.metric) and {"all", "mean", "wmean"} <= set(frame.aggregation)
    with pytest.raises(UsageError, match=r"name one, as in results\['random', 'mini-sts'\]"):
        _ = results["mini-sts"]


@pytest.mark.parametrize("kind", ["function", "pipeline", "object"])
def test_objects_of_the_users_program_are_encoders(kind):
    pipeline = make_pipeline(TfidfVectorizer(), TruncatedSVD(4, random_state=0)).fit(TEXTS)

    class Mine:
        def encode(self, texts):
            return np.asarray(letters(texts), dtype=np.float64)

    model = {"function": letters, "pipeline": pipeline, "object": Mine()}[kind]
    results = harness.evaluate(model, tasks="mini-sts", name="mine-v1")
    assert results.encoders == ("mine-v1",)
    if kind != "pipeline":
        same = harness.evaluate(letters, tasks="mini-sts")
        assert same.encoders == ("letters",)
        assert same["mini-sts"].score == results["mini-sts"].score


def test_results_are_kept_where_they_were_asked_for(tmp_path):
    saved = harness.evaluate("random", tasks="mini-sts", results_dir=tmp_path / "results", offline=True)
    read = harness.load_results(tmp_path / "results")
    assert read["mini-sts"].scores == saved["mini-sts"].scores and len(read) == 1
    assert "1 results of 1 encoders" in repr(read)


def test_what_cannot_be_evaluated_is_one_sentence():
    with pytest.raises(UsageError, match=r"^int: cannot be evaluated, expected a specification such as 'minilm'"):
        harness.evaluate(3, tasks="mini-sts")
    with pytest.raises(UsageError, match=r"^no model is named 'minilmm'; did you mean 'minilm'"):
        harness.evaluate("minilmm", tasks="mini-sts")
    with pytest.raises(UsageError, match=r"^give either a suite \(sts, "):
        harness.evaluate("random")

    def broken(texts):
        raise RuntimeError("no GPU")

    with pytest.raises(EncoderError, match=r"^broken: encoding one sentence failed with RuntimeError: no GPU"):
        harness.evaluate(broken, tasks="mini-sts")


def test_one_failure_among_several_is_kept_beside_the_results(tmp_path):
    results = harness.evaluate(["random", f"hf:{tmp_path}/nothing"], tasks="mini-sts", offline=True)
    assert len(results) == 1 and results.failures[0].task == "mini-sts"
    assert "nothing" in results.failures[0].reason


def test_load_encoder_gives_vectors_and_the_card():
    encoder = harness.load_encoder("random[dim=8]", offline=True)
    assert encoder.encode(["a", "b"]).shape == (2, 8)
    assert encoder.card.identity == harness.load_encoder("random[dim=8]").card.identity
    assert encoder.card.identity != harness.load_encoder("random[dim=8,seed=1]").card.identity


def test_an_unknown_name_of_the_package_says_what_there_is():
    with pytest.raises(AttributeError, match="has no attribute 'evalute'; it has "):
        _ = harness.evalute


def test_two_encoders_are_compared_and_drawn(tmp_path):
    results = harness.evaluate(["random", "bag-of-words"], tasks="mini-sts,mini-geometry", offline=True)
    found = harness.compare(results.of("bag-of-words"), results.of("random"))
    assert found.frame().iloc[0].higher == "a"
    with pytest.raises(UsageError, match="are several encoders, expected one"):
        harness.compare(results, results)
    figure = harness.plot.alignment_uniformity(results)
    figure.savefig(tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").stat().st_size > 1000


def test_a_number_is_explained(bert_folder):
    own = harness.evaluate(f"hf:{bert_folder}[pooling=avg]", tasks="mini-sts", offline=True)["mini-sts"].score
    found = harness.explain(
        f"hf:{bert_folder}[pooling=cls_before_pooler]", "mini-sts", published={"mini-sts": 100 * own}, offline=True
    )
    assert found.causes == ("pooling",)
