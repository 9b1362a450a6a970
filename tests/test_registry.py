"""Names of encoders: they parse, print, parse back, and unknown ones are refused with the nearest match."""

import pytest

from harness.encoders.catalog import resolve
from harness.encoders.context import Context
from harness.errors import UsageError
from harness.registry import Parameter, catalog, fill, parse_name, pick, split_specs

PARAMETERS = (
    Parameter(name="pooling", default=None, choices=("cls", "avg"), help=""),
    Parameter(name="dim", default=256, help=""),
    Parameter(name="ddi", default=True, help=""),
    Parameter(name="scale", default=0.5, help=""),
    Parameter(name="cut", default=0, minimum=3, help=""),
    Parameter(name="width", default=8, minimum=1, maximum=64, help=""),
    Parameter(name="share", default=0.5, maximum=1, help=""),
)


def spec(text):
    name, given = parse_name(text)
    return fill(name, given, PARAMETERS)


@pytest.mark.parametrize(
    "text", ["m", "m[pooling=avg]", "m[pooling=cls,dim=64,ddi=false,scale=0.25]", "hf:/a/b.c-d_e", "m[dim=1]"]
)
def test_the_printed_name_parses_back(text):
    assert str(spec(text)) == text
    assert spec(str(spec(text))) == spec(text)


def test_a_default_that_is_spelled_out_is_not_printed():
    assert str(spec("m[dim=256,ddi=true]")) == "m"


def test_values_have_the_type_of_their_default():
    values = spec("m[dim=8,ddi=false,scale=2]").parameters
    assert values == {"pooling": None, "dim": 8, "ddi": False, "scale": 2.0, "cut": 0, "width": 8, "share": 0.5}


@pytest.mark.parametrize("text", ["m[cut=3]", "m[cut=512]", "m[width=1]", "m[width=64]", "m[share=-7.0]", "m[dim=-1]"])
def test_a_number_on_its_bounds_or_without_any(text):
    assert str(spec(text)) == text


def test_the_default_is_legal_outside_the_bounds():
    assert str(spec("m[cut=0]")) == "m"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("m[poling=avg]", "model 'm' has no parameter 'poling'; did you mean 'pooling'?"),
        ("m[pooling=avgg]", "model 'm': pooling=avgg is unknown; did you mean 'avg'?"),
        ("m[dim=many]", "model 'm': dim=many is not a whole number"),
        ("m[scale=much]", "model 'm': scale=much is not a number"),
        ("m[ddi=1]", "model 'm': ddi=1 is neither true nor false"),
        ("m[cut=1]", "model 'm': cut=1 is out of range, expected 3 or more, or 0, the default"),
        ("m[cut=-5]", "model 'm': cut=-5 is out of range, expected 3 or more, or 0, the default"),
        ("m[width=0]", "model 'm': width=0 is out of range, expected 1 to 64"),
        ("m[width=999999999999]", "model 'm': width=999999999999 is out of range, expected 1 to 64"),
        ("m[share=1.5]", "model 'm': share=1.5 is out of range, expected 1 or less"),
        ("m[share=nan]", "model 'm': share=nan is out of range, expected 1 or less"),
        ("m[dim]", "model 'm[dim]': 'dim' is not parameter=value"),
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
            "model 'bert': max_tokens=-5 is out of range, expected 3 or more, or 0, the default",
        ),
        ("hf:x[max_tokens=2]", "model 'hf:x': max_tokens=2 is out of range, expected 3 or more, or 0, the default"),
    ],
)
def test_encoders_that_cannot_be_are_refused_before_they_are_built(tmp_path, text, sentence):
    with pytest.raises(UsageError) as caught:
        resolve(text, Context(cache_dir=tmp_path))
    assert str(caught.value) == sentence


def test_lists_split_on_commas_and_spaces_outside_brackets():
    assert split_specs("a,b[x=1,y=2] c,, d") == ["a", "b[x=1,y=2]", "c", "d"]


@pytest.mark.parametrize("text", ["a[b", "a]b", "a[[b]]"])
def test_brackets_must_match(text):
    with pytest.raises(UsageError) as caught:
        split_specs(text)
    assert str(caught.value).startswith("models: brackets do not match in ")


def test_pick_names_the_nearest_or_everything():
    table = {"sts": 1, "transfer": 2}
    assert pick("suite", table, "sts") == 1
    with pytest.raises(UsageError, match=r"^no suite is named 'STSS'; did you mean 'sts'\?$"):
        pick("suite", table, "STSS")
    with pytest.raises(UsageError, match=r"^no suite is named 'zzz'; known: sts, transfer$"):
        pick("suite", table, "zzz")


def test_two_entries_of_one_name_stop_the_import():
    with pytest.raises(ValueError, match="two encoders are named 'dim'"):
        catalog("encoder", [PARAMETERS[1], PARAMETERS[1]])
