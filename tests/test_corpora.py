"""Text to fit on: what counts as a sentence in each kind of file, names, and what is said of a bad file."""

import gzip

import pytest

from baselines.corpora import NAMED, find_corpus, sentences
from harness.data.locate import BUNDLED
from harness.encoders.context import Context
from harness.errors import DataError, UsageError


@pytest.fixture
def context(tmp_path):
    return Context(cache_dir=tmp_path / "cache", data_dir=tmp_path / "data", offline=True)


def texts(name, context):
    return list(sentences(find_corpus(str(name), context)))


def refused(error, name, context):
    with pytest.raises(error) as caught:
        texts(name, context)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param("a.txt", "One .\r\n\n  \n\"Two\", three\n", ["One .", '"Two", three'], id="text: quotes stay"),
        pytest.param("a", "one\x85still one\u2028too\n", ["one\x85still one\u2028too"], id=r"lines end at \n alone"),
        pytest.param("a.csv", 'sent0,sent1,hard_neg\n"A, b",c,\nd,e,f\n', ["A, b", "c", "d", "e", "f"], id="triplets"),
        pytest.param("a.tsv", "image\tcaption\n1.jpg\tA \"dog\n1.jpg\tTwo\n", ['A "dog', "Two"], id="captions"),
        pytest.param("s1.dev", "A man .\nA dog .", ["A man .", "A dog ."], id="SNLI's side of SentEval"),
    ],
)  # fmt: skip
def test_sentences_of_a_file_packed_or_not(tmp_path, context, name, content, expected):
    (tmp_path / name).write_bytes(content.encode())
    assert texts(tmp_path / name, context) == expected
    with gzip.open(tmp_path / f"{name}.gz", "wb") as file:
        file.write(content.encode())
    assert texts(tmp_path / f"{name}.gz", context) == expected


def test_bundled_corpora_need_nothing(context):
    assert len(texts("mini-nli", context)) == 3 * 340
    assert len(texts("mini-wiki", context)) == 1661


def test_the_identity_holds_the_name_and_the_content_but_no_folder(tmp_path, context):
    path = tmp_path / "captions.txt"
    path.write_text("one\n")
    before = find_corpus(str(path), context).identity
    path.write_text("two\n")
    after = find_corpus(str(path), context).identity
    assert before == "captions.txt@2c8b08da5ce6"  # printf 'one\n' | sha256sum
    assert after != before


def test_snli_in_the_data_folder(tmp_path, context):
    folder = tmp_path / "data" / "downstream" / "SNLI"
    folder.mkdir(parents=True)
    for name in ("s1.dev", "s2.dev", "s1.test"):
        (folder / name).write_text(f"{name} .\n")
    assert refused(DataError, "snli", context) == (
        f"{folder / 's2.test'}: no such file, expected SNLI in SentEval's layout; get it, or fit on another text"
    )
    (folder / "s2.test").write_text("s2.test .\n")
    assert texts("snli", context) == ["s1.dev .", "s2.dev .", "s1.test .", "s2.test ."]
    first = find_corpus("snli", context)
    assert first.identity.startswith("snli@")
    (folder / "s2.test").write_text("other .\n")
    assert find_corpus("snli", context).identity != first.identity


def test_the_real_snli(shared, context, tmp_path):
    (tmp_path / "data").symlink_to(shared / "data" / "senteval")
    assert len(texts("snli", context)) == 39332


def test_an_unknown_name_or_missing_file(context):
    assert refused(UsageError, "nil", context) == (
        "nil: no such text, expected a text, .csv, .tsv or .gz file, or one of "
        f"{', '.join(NAMED)}"
    )  # fmt: skip


def test_a_corpus_of_the_hub_without_the_hub(context, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    message = refused(DataError, "nli", context)
    assert message.startswith(f"{tmp_path / 'hf' / 'hub'}: nli_for_simcse.csv of ")
    assert "was not downloaded before and the network is switched off" in message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"sent0,sent1\na,b\nc\n", ":3: 1 column, expected 2 as in the header; the file is damaged or no "
         "table: a plain text must not be named .csv or .tsv"),
        ("a.tsv", b"image\tcaption\n1\ta\tb\n", ":2: 3 columns, expected 2 as in the header; the file is damaged or no "
         "table: a plain text must not be named .csv or .tsv"),
        ("a.csv", b'sent0\n"a" b\n', ":2: ',' expected after '\"', expected comma-separated sentences"),
        ("a.txt", b"fine\nca\xff\n", ": cannot be read ('utf-8' codec can't decode byte 0xff in position 7: invalid "
         "start byte), expected a whole file of UTF-8 text"),
        ("a.txt.gz", gzip.compress(b"one\n" * 9)[:-4], ": cannot be read (Compressed file ended before the "
         "end-of-stream marker was reached), expected a whole file of UTF-8 text"),
    ],
    ids=["short row", "long row", "quotes", "encoding", "cut short"],
)  # fmt: skip
def test_a_file_that_is_not_what_its_ending_says(tmp_path, context, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert refused(DataError, tmp_path / name, context) == f"{tmp_path / name}{expected}"


def test_mini_corpora_are_where_they_were_measured(context):
    assert find_corpus("mini-nli", context).paths == (BUNDLED / "nli" / "nli_for_simcse.csv",)
