"""Names of encoders: they parse, print, parse back, and unknown ones are refused with the nearest match."""

import pytest

from harness.encoders.context import Context
from harness.encoders.entry import EncoderEntry, parameter, parameters
from harness.encoders.registry import fill, known_encoders, resolve
from harness.errors import UsageError
from harness.names import ScoreKey, Spec, nearest, pick, split_names, split_specs


@parameters
class Chosen:
    pooling: str | None = parameter(None, choices=("cls", "avg"))
    dim: int = parameter(256)
    ddi: bool = parameter(True)
    scale: float = parameter(0.5)
    cut: int | None = parameter(None, ge=3)
    width: int = parameter(8, ge=1, le=64)
    share: float = parameter(0.5, le=1)
    groups: int = parameter(1, recorded_only=True)


def resolved(text):
    spec = Spec.parse(text)
    return fill(EncoderEntry(name=spec.name, summary="", parameters=Chosen, build=None), spec.given)


def spec(text):
    return resolved(text).spec


@pytest.mark.parametrize(
    "text", ["m", "m[pooling=avg]", "m[pooling=cls,dim=64,ddi=false,scale=0.25]", "hf:/a/b.c-d_e", "m[dim=1]"]
)
def test_the_printed_name_parses_back(text):
    assert str(spec(text)) == text
    assert spec(str(spec(text))) == spec(text)


def test_a_default_that_is_spelled_out_is_not_printed():
    assert str(spec("m[dim=256,ddi=true]")) == "m"


def test_values_have_the_declared_type():
    chosen = resolved("m[dim=8,ddi=false,scale=2]").parameters
    assert chosen == Chosen(dim=8, ddi=False, scale=2.0)
    assert chosen.pooling is None and chosen.cut is None


def test_none_is_written_and_read_where_a_parameter_may_be_unset():
    assert resolved("m[cut=none]").parameters.cut is None and str(spec("m[cut=none]")) == "m"


def test_what_does_not_change_the_vectors_is_no_part_of_the_name():
    asked = resolved("m[groups=4,dim=1]")
    assert str(asked.spec) == "m[dim=1]" and asked.parameters.groups == 4


def test_a_parameter_without_a_default_is_required():
    @parameters
    class Required:
        folder: str = parameter(help="where the model is")

    entry = EncoderEntry(name="mine", summary="", parameters=Required, build=None)
    with pytest.raises(UsageError) as caught:
        fill(entry, {})
    assert str(caught.value) == "model 'mine': folder is required (where the model is); write mine[folder=...]"
    assert str(fill(entry, {"folder": "a"}).spec) == "mine[folder=a]"


def test_a_specification_is_changed_without_being_written_again():
    one = Spec.parse("bert[pooling=avg,seed=1]")
    assert str(one.without("seed")) == "bert[pooling=avg]"
    assert str(one.replaced(seed=2)) == "bert[pooling=avg,seed=2]"
    assert len({one, Spec.parse("bert[pooling=avg,seed=1]")}) == 1


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("spearman/all/test", ScoreKey("spearman", "all", "test")),
        ("spearman/subset:surprise.OnWN/test", ScoreKey("spearman", "subset:surprise.OnWN", "test")),
        ("accuracy/dev", ScoreKey("accuracy", "", "dev")),
        ("alignment/gt4/test/low", ScoreKey("alignment", "gt4", "test", "low")),
    ],
)
def test_score_keys_read_and_print_the_same(text, key):
    assert ScoreKey.parse(text) == key and str(key) == text


@pytest.mark.parametrize("text", ["m[cut=3]", "m[cut=512]", "m[width=1]", "m[width=64]", "m[share=-7.0]", "m[dim=-1]"])
def test_a_number_on_its_bounds_or_without_any(text):
    assert str(spec(text)) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("m[poling=avg]", "model 'm' has no parameter 'poling'; did you mean 'pooling'?"),
        ("m[pooling=avgg]", "model 'm': pooling=avgg is unknown; did you mean 'avg'?"),
        ("m[dim=many]", "model 'm': dim=many is not a whole number"),
        ("m[scale=much]", "model 'm': scale=much is not a number"),
        ("m[ddi=maybe]", "model 'm': ddi=maybe is not true or false"),
        ("m[cut=1]", "model 'm': cut=1 is out of range, expected 3 or more"),
        ("m[cut=-5]", "model 'm': cut=-5 is out of range, expected 3 or more"),
        ("m[width=0]", "model 'm': width=0 is out of range, expected 1 to 64"),
        ("m[width=999999999999]", "model 'm': width=999999999999 is out of range, expected 1 to 64"),
        ("m[share=1.5]", "model 'm': share=1.5 is out of range, expected 1 or less"),
        ("m[share=nan]", "model 'm': share=nan is out of range, expected 1 or less"),
        ("m[dim]", "model 'm[dim]': 'dim' is not parameter=value; quote a text that holds a comma"),
        ("m[dim=1,dim=2]", "model 'm[dim=1,dim=2]' gives 'dim' twice; keep one"),
        ("m[dim=1", "model 'm[dim=1' is not a specification; write name or name[parameter=value,...]"),
    ],
)
def test_a_wrong_specification_says_what_is_wrong(text, sentence):
    with pytest.raises(UsageError) as caught:
        spec(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("random[dim=0]", "model 'random': dim=0 is out of range, expected 1 to 1000000"),
        ("random[dim=-3]", "model 'random': dim=-3 is out of range, expected 1 to 1000000"),
        (
            "bag-of-words[dim=999999999999]",
            "model 'bag-of-words': dim=999999999999 is out of range, expected 1 to 1000000",
        ),
        (
            "bert[backbone=tiny,max_tokens=-5]",
            "model 'bert': max_tokens=-5 is out of range, expected 3 or more",
        ),
        ("hf:x[max_tokens=2]", "model 'hf:x': max_tokens=2 is out of range, expected 3 or more"),
    ],
)
def test_encoders_that_cannot_be_are_refused_before_they_are_built(tmp_path, text, sentence):
    with pytest.raises(UsageError) as caught:
        resolve(text, Context(cache_dir=tmp_path))
    assert str(caught.value) == sentence


def test_lists_split_on_commas_and_spaces_outside_brackets():
    assert split_specs("a,b[x=1,y=2] c,, d") == ["a", "b[x=1,y=2]", "c", "d"]


def test_plain_names_split_on_commas_and_spaces():
    assert split_names("md, csv  html", "--format") == ["md", "csv", "html"]
    with pytest.raises(UsageError, match=r"^--format: ' ,' names nothing; write names, separated by commas$"):
        split_names(" ,", "--format")


@pytest.mark.parametrize("text", ["a[b", "a]b", "a[[b]]"])
def test_brackets_must_match(text):
    with pytest.raises(UsageError) as caught:
        split_specs(text)
    assert str(caught.value).startswith("models: brackets or quotes do not match in ")


def test_pick_names_the_nearest_or_everything():
    table = {"sts": 1, "transfer": 2}
    assert pick("suite", table, "sts") == 1
    with pytest.raises(UsageError, match=r"^no suite is named 'STSS'; did you mean 'sts'\?$"):
        pick("suite", table, "STSS")
    with pytest.raises(UsageError, match=r"^no suite is named 'zzz'; known: sts, transfer$"):
        pick("suite", table, "zzz")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hf:in/a,b", "x"),
        ("hf:in/[a]", "x"),
        ("bert", "in/my text, v2.txt"),
        ("bert", 'a"b\\c'),
        ("bert", "[x]"),
        ("m", "ü=$"),
    ],
)
def test_whatever_a_path_holds_is_read_back(name, value):
    one = Spec(name, {"backbone": value, "seed": 1})
    again = Spec.parse(str(one))
    assert (again.name, again.given["backbone"], again.given["seed"]) == (name, value, "1")
    assert split_specs(f"{one},random") == [str(one), "random"]


def test_a_folder_with_spaces_is_one_model():
    assert split_specs("hf:in/My Drive[pooling=avg],random") == ["hf:in/My Drive[pooling=avg]", "random"]
    assert Spec.parse("hf:in/My Drive[pooling=avg]").name == "hf:in/My Drive"


@pytest.mark.parametrize("text", ['m[a="b]', 'm[a="b"c]', "m[a=b]c", "[a=b]", ""])
def test_what_is_no_specification_is_refused(text):
    with pytest.raises(UsageError, match=r"^model "):
        Spec.parse(text)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("simcse", "'simcse-unsup' or 'simcse-sup'"),
        ("all-MiniLM-L6-v2", "'minilm'"),
        ("bert-base-uncased", "'bert'"),
        ("glove", "'avg-glove'"),
        ("minlm", "'minilm'"),
    ],
)
def test_a_model_by_another_name_leads_to_its_own(name, meant):
    assert nearest(name, known_encoders()) == f"did you mean {meant}?"


@pytest.mark.parametrize(("name", "meant"), [("lr", "learning_rate"), ("steps", "max_steps"), ("batch", "batch_size")])
def test_a_parameter_by_a_short_name_leads_to_its_own(name, meant):
    with pytest.raises(UsageError, match=rf"has no parameter '{name}'; did you mean '{meant}'\?$"):
        resolve(f"simcse-unsup[{name}=1]")
