"""Texts: what counts as a sentence in each kind of file, how the kind is told, and what is said of a bad file."""

import gzip
import json

import pytest

from harness.data.columns import is_neutral
from harness.data.locate import BUNDLED
from harness.data.named_texts import NAMED, add_text, find_text
from harness.data.text import open_text, rows_sha256
from harness.encoders.context import Context
from harness.errors import BenchError, DataError, UsageError

TRIPLETS = b'sent0,sent1,hard_neg\n"A, b",c,\nd,e,f\n'
SENTENCES = ["A, b", "c", "d", "e", "f"]


@pytest.fixture
def context(tmp_path):
    return Context(cache_dir=tmp_path / "cache", data_dir=tmp_path / "data", offline=True)


def texts(name, context, first=None):
    return list(find_text(str(name), context, first).sentences())


def refused(error, name, context):
    with pytest.raises(error) as caught:
        texts(name, context)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param("a.txt", b"One .\r\n\n  \n\"Two\", three\n", ["One .", '"Two", three'], id="lines: quotes stay"),
        pytest.param("a", "one\x85still one\u2028too\n".encode(), ["one\x85still one\u2028too"], id=r"end at \n alone"),
        pytest.param("s1.dev", b"A man .\nA dog .", ["A man .", "A dog ."], id="SNLI's side of SentEval"),
        pytest.param("n.txt", TRIPLETS, ["sent0,sent1,hard_neg", '"A, b",c,', "d,e,f"], id="a table named .txt"),
        pytest.param("a.csv", TRIPLETS, SENTENCES, id="triplets"),
        pytest.param("A.CSV", TRIPLETS, SENTENCES, id="upper case"),
        pytest.param("a.csv", b"\xef\xbb\xbf" + TRIPLETS.replace(b"\n", b"\r\n"), SENTENCES, id="as Excel writes it"),
        pytest.param("a.csv", b",sent0\n0,a\n1,b\n", ["a", "b"], id="as pandas writes it"),
        pytest.param("a.csv", b"Unnamed: 0,sent0\n0,a\n1,b\n", ["a", "b"], id="as pandas writes it again"),
        pytest.param("a.csv", b"id,Sentence 1,Sentence 2,score\n1,a,b,0.5\n", ["a", "b"], id="a data set's columns"),
        pytest.param("a.csv", b'text\n"two\nlines"\n\n', ["two\nlines"], id="a cell of two lines"),
        pytest.param("a.tsv", b"image\tcaption\n1.jpg\tA \"dog\n1.jpg\tTwo\n", ['A "dog', "Two"], id="captions"),
        pytest.param("a.jsonl", b'\n{"anchor": "a", "positive": "b", "label": 1}\n\n', ["a", "b"], id="JSON lines"),
        pytest.param("a.json", b'{"text": "\\u00e4"}\n{"text": "b"}\n', ["\u00e4", "b"], id="JSON lines named .json"),
        pytest.param("a.txt", b'{"text": "a"}\n', ["a"], id="JSON lines named .txt"),
        pytest.param("a.txt", b"\xef\xbb\xbfOne\n\xef\xbb\xbfTwo\n", ["One", "\ufeffTwo"], id="a mark at the start"),
    ],
)  # fmt: skip
def test_sentences_of_a_file_packed_or_not(write, context, name, content, expected):
    assert texts(write(name, content), context) == expected
    assert texts(write(f"{name}.GZ", gzip.compress(content)), context) == expected
    assert texts(write(f"{name}.gz", content), context) == expected  # what a browser unpacked and did not rename
    assert texts(write(name, gzip.compress(content)), context) == expected


@pytest.mark.parametrize(
    ("name", "content", "error", "expected"),
    [
        ("a.csv", b"sent0,sent1\na,b\nc\n", DataError, ":3: 1 column, expected the header's 2; quote cells that hold "
         "the separator, or name a plain text .txt"),
        ("a.tsv", b"image\tcaption\n1\ta\tb\n", DataError, ":2: 3 columns, expected the header's 2; quote cells that "
         "hold the separator, or name a plain text .txt"),
        ("a.csv", b'sent0\n"a" b\n', DataError, ":2: ',' expected after '\"', expected comma-separated sentences"),
        ("a.csv", b",sent0\n0,a\nx,b\n", DataError, ":3: 'x' in the column without a name, expected the number of a "
         "row; name the column, or remove it"),
        ("a.csv", b"A man sleeps .,A man rests .\nTwo,three\n", UsageError, ": the first line has 2 columns (A man "
         "sleeps ., A man rests .), of which 'A man sleeps .' is no known name of a column, expected a header with "
         "names such as sent, sentence, text or contradiction; add a header, or rename or remove the column"),
        ("a.csv", b"sent0;sent1\na;b\n", UsageError, ": the first line has 1 column (sent0;sent1), of which "
         "'sent0;sent1' is no known name of a column, expected a header with names such as sent, sentence, text or "
         "contradiction; add a header, or rename or remove the column"),
        ("a.csv", b"sent0,Sent_0\na,b\n", UsageError, ": 2 columns (sent0, Sent_0), of which two have one name; name "
         "every column differently"),
        ("a.jsonl", b'{"text": "a"}\n{"text": null}\n', DataError, ":2: 'text' is null, expected a text in quotes"),
        ("a.jsonl", b'{"text": "a"}\n{"sentence": "b"}\n', DataError, ":2: sentences named sentence, expected text as "
         "in the first line"),
        ("a.jsonl", b'{"text": "a"}\n["b"]\n', DataError, ":2: a JSON list, expected an object with texts under names"),
        ("a.json", b'[\n {"text": "a"}\n]\n', UsageError, ": .json files cannot be read, expected .txt for one "
         "sentence a line, .csv or .tsv for a table with a header, or .jsonl, each with or without .gz; convert it"),
        ("a.txt", b"fine\nca\xff\n", DataError, ":2: byte 0xff is not UTF-8; convert the file"),
        ("a.txt", "fine\n".encode("utf-16"), UsageError, ": the file is UTF-16, expected .txt for one sentence a line, "
         ".csv or .tsv for a table with a header, or .jsonl, each with or without .gz; convert it, or get it again"),
        ("a.txt", b"a\0b\n", UsageError, ": the file holds zero bytes, expected text in UTF-8; convert it, or get it "
         "again"),
        ("a.txt", b"one\rtwo\r", UsageError, ": lines end in \\r alone, expected \\n or \\r\\n; convert it"),
        ("a.txt", b" \n\n", DataError, ": holds no text, expected sentences; is it the right file?"),
    ],
    ids=["short row", "long row", "quotes", "no row number", "no header", "semicolons", "one name twice", "null",
         "other names", "no object", "JSON", "encoding", "UTF-16", "zero bytes", "old Mac", "blank"],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(write, context, name, content, error, expected):
    path = write(name, content)
    assert refused(error, path, context) == f"{path}{expected}"


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04...",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b"<!DOCTYPE html><p>404",
        b"PAR1",
    ],
)
def test_what_is_no_text_is_called_what_it_is(write, context, content):
    assert "the file is a" in refused(UsageError, write("a.txt", content), context)


def test_a_cut_or_damaged_gzip_is_found_even_behind_the_first_sentences(write, context):
    content = gzip.compress(b"".join(b"sentence %d\n" % n for n in range(9000)))
    path = write("cut.txt.gz", content[:-4])
    with pytest.raises(DataError) as caught:
        texts(path, context, first=3)
    assert str(caught.value) == (
        f"{path}: cannot be unpacked (Compressed file ended before the end-of-stream marker was reached), expected a "
        "whole .gz file; get it again"
    )
    path = write("sum.txt.gz", content[:-8] + bytes(4) + content[-4:])
    with pytest.raises(DataError, match="CRC check failed"):
        texts(path, context, first=3)


def test_rows_have_the_columns_that_are_asked_for_and_say_what_they_hold(write):
    file = open_text(write("a.csv", b",image,sent0,sent1,neutral,label\n0,1.jpg,a,b,c,2\n1,1.jpg,d,e,,0\n"))
    assert [column.role for column in file.columns] == ["index", "image", "sentence", "sentence", "sentence", "label"]
    assert file.sentence_columns == ("sent0", "sent1", "neutral")
    assert [column.name for column in file.columns if is_neutral(column.name)] == ["neutral"]
    assert list(file.rows()) == [("a", "b", "c"), ("d", "e", "")]
    assert list(file.rows(["neutral", "sent0"], first=1)) == [("c", "a")]


def test_blank_lines_are_rows_of_lines_and_of_a_single_column_only(write):
    assert list(open_text(write("a.txt", b"a\n\nb\n")).rows()) == [("a",), ("",), ("b",)]
    assert list(open_text(write("a.csv", b"text\na\n\nb\n")).rows()) == [("a",), ("",), ("b",)]
    assert list(open_text(write("b.csv", b"sent0,sent1\na,b\n\nc,d\n")).rows()) == [("a", "b"), ("c", "d")]


def test_the_digest_is_of_what_is_read(write, context):
    table, lines = (find_text(str(write(f"n.{ending}", TRIPLETS)), context) for ending in ("csv", "txt"))
    assert table.sha256 == lines.sha256
    assert table.digest != lines.digest
    packed = find_text(str(write("other.csv.gz", gzip.compress(TRIPLETS))), context)
    assert packed.sha256 != table.sha256
    assert packed.digest == table.digest
    assert packed.name == f"other.csv.gz@{table.digest[:12]}"
    plain = find_text(str(write("same.txt", b"A, b\nc\nd\ne\nf\n")), context)
    assert plain.digest == table.digest
    assert find_text(str(write("two.txt", b"A, b\nc\n")), context).digest == (
        find_text(str(write("n.csv", TRIPLETS)), context, first=2).digest
    )


def test_a_changed_file_of_equal_size_has_another_digest(write, context):
    before = find_text(str(write("a.txt", b"one\n")), context).name
    after = find_text(str(write("a.txt", b"two\n")), context).name
    assert before.partition("@")[0] == after.partition("@")[0] == "a.txt"
    assert before != after


def test_the_digest_of_rows_tells_where_cells_and_rows_end():
    rows = [[("ab", "c")], [("a", "bc")], [("ab",), ("c",)], [("ab", "c"), ()], []]
    assert len(set(map(rows_sha256, rows))) == len(rows)


def test_bundled_texts_need_nothing(context):
    assert len(texts("mini-nli", context)) == 3 * 340
    assert len(texts("mini-wiki", context)) == 1661
    assert find_text("mini-nli", context).files[0].path == BUNDLED / "nli" / "nli_for_simcse.csv"


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
    first = find_text("snli", context).name
    assert first.startswith("snli@")
    (folder / "s2.test").write_text("other .\n")
    assert find_text("snli", context).name != first


@pytest.mark.shared
def test_the_real_snli(shared, context, tmp_path):
    (tmp_path / "data").symlink_to(shared / "data" / "senteval")
    assert len(texts("snli", context)) == 39332


@pytest.mark.shared
def test_the_real_triplets_and_captions(shared, context):
    file = open_text(shared / "data" / "nli" / "nli_triplets_31k.csv.gz")
    assert sum(1 for _ in file.rows()) == 31123
    assert len(texts(shared / "data" / "corpora" / "flickr8k_captions.tsv.gz", context)) == 40457


def test_an_unknown_name_or_missing_file(context):
    assert refused(UsageError, "nil", context) == (
        "nil: no such text, expected a file of sentences, or a name; did you mean 'nli'?"
    )
    assert refused(UsageError, "in/some.txt", context).endswith(f"known: {', '.join(NAMED)}")


def test_a_text_of_the_hub_without_the_hub(context, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    message = refused(DataError, "nli", context)
    assert message.startswith(f"{tmp_path / 'hf' / 'hub'}: nli_for_simcse.csv of ")
    assert "was not downloaded before and the network is switched off" in message


def test_a_name_stands_for_the_file_that_was_given(write, context):
    assert refused(DataError, "nli-31k", context).startswith(
        "nli-31k: no file was given for this name; run `bench data add nli-31k FILE`, with 31,123 triplets"
    )
    path = write("mine.csv", TRIPLETS)
    added = add_text("nli-31k", path, context.cache_dir)
    assert texts("nli-31k", context) == SENTENCES
    found = find_text("nli-31k", context)
    assert found.name == added.name == f"nli-31k@{rows_sha256((s,) for s in SENTENCES)[:12]}"
    add_text("films.2", path, context.cache_dir)
    assert texts("films.2", context) == SENTENCES


def test_a_given_file_that_changed_or_went_away(write, context):
    path = write("mine.txt", b"one\n")
    before = add_text("films", path, context.cache_dir).sha256
    path.write_bytes(b"two\n")
    message = refused(DataError, "films", context)
    assert message.startswith(f"{path}: sha256 is ")
    assert message.endswith(
        f", expected {before} as when it was named films; get the file back, or run `bench data add films FILE`"
    )
    path.unlink()
    assert refused(DataError, "films", context) == (
        f"{path}: no such file, expected the one named films; run `bench data add films FILE`"
    )


def test_a_damaged_note_of_a_name_is_as_none(write, context):
    add_text("films", write("mine.txt", b"one\n"), context.cache_dir)
    (context.cache_dir / "texts" / "films.json").write_text(json.dumps([]))
    assert "no such text" in refused(UsageError, "films", context)


@pytest.mark.parametrize("name", ["nli", "target", "Films", "a/b", "..", ""])
def test_names_that_cannot_be_given(write, context, name):
    with pytest.raises(UsageError):
        add_text(name, write("mine.txt", b"one\n"), context.cache_dir)


def test_a_file_without_sentences_gets_no_name(write, context):
    with pytest.raises(BenchError):
        add_text("films", write("mine.csv", b"text\n\n"), context.cache_dir)
