"""Training text: which rows are read, what is refused, and in which words."""

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from baselines.simcse.data import read_rows
from baselines.simcse.settings import SimcseSup, SimcseUnsup
from harness.data.locate import BUNDLED
from harness.data.text import open_text
from harness.errors import DataError, UsageError

UNSUP = SimcseUnsup()
SUP = SimcseSup()
NLI = 'sent0,sent1,hard_neg,neutral\n"a, b",c,d,e\nf,,g,h\n'
NEUTRAL_FIRST = "sent0,sent1,neutral,hard_neg\na,b,n,h\nc,d,m,i\n"


def read(path, settings):
    return list(read_rows(open_text(path), settings))


def rows_of(header, **changes):
    """A file of that header and two rows, read with these settings."""

    def written(write):
        width = header.count(",") + 1
        texts = ["abcdefgh"[:width], "stuvwxyz"[:width]]
        path = write("data.csv", "\n".join([header, *(",".join(text) for text in texts)]))
        return ["".join(row) for row in read(path, replace(SUP, **changes))]

    return written


def refused(path, settings, kind=UsageError):
    with pytest.raises(kind) as caught:
        read(path, settings)
    return str(caught.value).replace(str(path), "FILE")


@pytest.mark.parametrize("name", ["wiki", "wiki.txt", "wiki.TEXT", "s1.dev", "wiki.v1.0", "wiki.json.txt"])
def test_text_is_one_sentence_a_line_and_empty_lines_stay(write, name):
    path = write(name, "one\r\n\ntwo\u2028three\n")
    assert read(path, UNSUP) == [("one",), ("",), ("two\u2028three",)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("a, b", "c", "d"), ("f", "", "g")]),
        ({"hard_negatives": "none"}, [("a, b", "c"), ("f", "")]),
        ({"hard_negatives": "neutral"}, [("a, b", "c", "e"), ("f", "", "h")]),
        ({"hard_negatives": "both"}, [("a, b", "c", "d", "e"), ("f", "", "g", "h")]),
        ({"hard_negatives": "both", "hard_negative_weight": 1.0}, [("a, b", "c", "d", "e"), ("f", "", "g", "h")]),
        ({"positives": "contradiction"}, [("a, b", "d"), ("f", "g")]),
        ({"positives": "neutral"}, [("a, b", "e"), ("f", "h")]),
        ({"positives": "contradiction", "hard_negatives": "neutral"}, [("a, b", "d", "e"), ("f", "g", "h")]),
        ({"positives": "all"}, [("a, b", "c"), ("a, b", "d"), ("a, b", "e"), ("f", ""), ("f", "g"), ("f", "h")]),
    ],
)
def test_columns_by_position(write, changes, expected):
    assert read(write("nli.csv", NLI), replace(SUP, **changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("a", "b", "h"), ("c", "d", "i")]),
        ({"hard_negative_weight": 1.0}, [("a", "b", "h"), ("c", "d", "i")]),
        ({"hard_negatives": "neutral"}, [("a", "b", "n"), ("c", "d", "m")]),
        ({"hard_negatives": "both"}, [("a", "b", "h", "n"), ("c", "d", "i", "m")]),
        ({"positives": "contradiction"}, [("a", "h"), ("c", "i")]),
        ({"positives": "neutral"}, [("a", "n"), ("c", "m")]),
    ],
)
def test_the_contradiction_may_come_after_the_neutral_one(write, changes, expected):
    assert read(write("nli.csv", NEUTRAL_FIRST), replace(SUP, **changes)) == expected


@pytest.mark.parametrize("weight", [-0.6931471805599453, 0.0, 0.6931471805599453])
def test_table_7_weighs_the_third_column(write, weight):
    assert rows_of("sent0,sent1,hard_neg", hard_negative_weight=weight)(write) == ["abc", "stu"]


@pytest.mark.parametrize("positives", ["entailment", "neutral", "contradiction", "all"])
def test_table_4_has_pairs_alone(write, positives):
    pairs = {"entailment": ["ab", "st"], "contradiction": ["ac", "su"], "neutral": ["ad", "sv"]}
    expected = ["ab", "ac", "ad", "st", "su", "sv"] if positives == "all" else pairs[positives]
    assert rows_of("sent0,sent1,hard_neg,neutral", positives=positives, hard_negatives="none")(write) == expected


def test_every_two_captions_of_an_image_are_a_pair(write):
    path = write("captions.tsv", "image\tcaption\n1\ta\n1\tb\n1\tc\n2\td\n\n3\te\n3\tf\n")
    pairs = read(path, replace(SUP, positives="captions"))
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c"), ("e", "f")]


@pytest.mark.parametrize(
    ("header", "settings", "message"),
    [
        ("sent0", SUP, "1 column (sent0), expected 2 or more for simcse-sup: sentence, positive"),
        (
            "sent0,sent1",
            UNSUP,
            "2 columns (sent0, sent1), expected 1 for simcse-unsup; use simcse-sup, or a file of one column",
        ),
        (
            "sent0,sent1,hard_neg",
            replace(SUP, positives="captions"),
            "3 columns (sent0, sent1, hard_neg), expected 2 for positives=captions: image, caption",
        ),
        (
            "sent0,sent1,hard_neg",
            replace(SUP, positives="neutral"),
            "3 columns (sent0, sent1, hard_neg), expected one named 'neutral' after the first for positives=neutral",
        ),
        (
            "neutral,sent1",
            replace(SUP, hard_negatives="neutral"),
            "2 columns (neutral, sent1), expected one named 'neutral' after the first for hard_negatives=neutral",
        ),
        (
            "sent0,sent1",
            replace(SUP, positives="contradiction"),
            "2 columns (sent0, sent1), expected one of contradictions, such as hard_neg, after the first two for "
            "positives=contradiction",
        ),
        (
            "sent0,sent1,Neutral",
            replace(SUP, positives="contradiction"),
            "3 columns (sent0, sent1, Neutral), expected one of contradictions, such as hard_neg, after the first two "
            "for positives=contradiction",
        ),
        (
            "sent0,sent1,neutral",
            replace(SUP, hard_negatives="both"),
            "3 columns (sent0, sent1, neutral), expected one of contradictions, such as hard_neg, after the first two "
            "for hard_negatives=both",
        ),
    ],
)
def test_columns_that_do_not_fit_the_settings(write, header, settings, message):
    assert refused(write("data.csv", f"{header}\n"), settings) == f"FILE: {message}"


@pytest.mark.parametrize(
    ("positives", "hard_negatives", "column"),
    [
        ("neutral", "neutral", "neutral"),
        ("neutral", "both", "neutral"),
        ("contradiction", "both", "hard_neg"),
        ("all", "neutral", "neutral"),
        ("all", "both", "hard_neg"),
    ],
)
def test_a_positive_is_not_its_own_hard_negative(write, positives, hard_negatives, column):
    settings = replace(SUP, positives=positives, hard_negatives=hard_negatives)
    assert refused(write("nli.csv", NLI), settings) == (
        f"FILE: 4 columns (sent0, sent1, hard_neg, neutral), of which '{column}' is positive and hard negative at once "
        f"with positives={positives} and hard_negatives={hard_negatives}, expected different ones; change one of the "
        "two"
    )


@pytest.mark.parametrize(
    ("header", "positives", "hard_negatives"),
    [
        ("sent0,sent1", "entailment", "given"),
        ("sent0,sent1,neutral", "entailment", "given"),
        ("sent0,sent1,hard_neg", "entailment", "none"),
        ("sent0,sent1,hard_neg", "contradiction", "given"),
        ("sent0,sent1,hard_neg", "all", "given"),
        ("sent0,sent1,hard_neg,neutral", "neutral", "given"),
        ("image,caption", "captions", "none"),
    ],
)
def test_a_weight_needs_hard_negatives(write, header, positives, hard_negatives):
    settings = replace(SUP, positives=positives, hard_negatives=hard_negatives, hard_negative_weight=1.5)
    columns = f"{header.count(',') + 1} columns ({header.replace(',', ', ')})"
    assert refused(write("data.csv", f"{header}\n"), settings) == (
        f"FILE: {columns} and no hard negatives with positives={positives} and hard_negatives={hard_negatives}, "
        "expected some for hard_negative_weight=1.5; drop the weight, or choose others"
    )


@pytest.mark.parametrize(
    "header",
    [
        "sent0,sent1,hard_neg",
        "Sent0,SENT1,Hard_Neg",
        "\ufeffsent0, sent1, hard-neg",
        "premise,hypothesis,contradiction",
        "sentence1,sentence2,negative",
        "sentence_A,sentence_B,negative_1",
        "anchor,positive,negative",
        "query,entailment,hard negative",
    ],
)
def test_headers_in_use(write, header):
    assert rows_of(header)(write) == ["abc", "stu"]


@pytest.mark.parametrize("header", ["text", "Sentence", "sent0"])
def test_one_column_keeps_its_empty_lines(write, header):
    path = write("data.csv", f'{header}\none\n\n"two, three"\n\n')
    assert read(path, UNSUP) == [("one",), ("",), ("two, three",), ("",)]


@pytest.mark.parametrize(
    ("header", "settings", "found", "name"),
    [
        ("foo,bar,baz", SUP, "3 columns (foo, bar, baz)", "foo"),
        ("sent0,,hard_neg", SUP, "3 columns (sent0, , hard_neg)", ""),
        (
            'A man is here .,"A person , a man , is here right now and stays ."',
            SUP,
            "2 columns (A man is here ., A person , a man , is here right now an…)",
            "A man is here .",
        ),
        ("The ferry was cancelled .", UNSUP, "1 column (The ferry was cancelled .)", "The ferry was cancelled ."),
    ],
)
def test_a_table_needs_a_header(write, header, settings, found, name):
    assert refused(write("data.csv", f"{header}\n"), settings) == (
        f"FILE: the first line has {found}, of which {name!r} is no known name of a column, expected a header with "
        "names such as sent, sentence, text or contradiction; add a header, or rename or remove the column"
    )


@pytest.mark.parametrize(("header", "name"), [("sentence1,sentence2,label", "label"), ("image,caption", "image")])
def test_columns_that_judge_or_group_sentences_are_not_left_out(write, header, name):
    columns = f"{header.count(',') + 1} columns ({header.replace(',', ', ')})"
    assert refused(write("data.csv", f"{header}\n"), SUP) == (
        f"FILE: {columns}, of which {name!r} names no sentences, expected sentences alone; choose rows by it and "
        "remove it"
    )


def test_row_numbers_are_left_out(write):
    assert read(write("data.csv", ",sent0,sent1\n0,a,b\n1,c,d\n"), SUP) == [("a", "b"), ("c", "d")]
    assert read(write("text.csv", "id,text\nx,a\ny,b\n"), UNSUP) == [("a",), ("b",)]


def test_json_lines(write):
    path = write("data.jsonl", '{"anchor": "a", "positive": "b"}\n{"anchor": "c", "positive": "d"}\n')
    assert read(path, SUP) == [("a", "b"), ("c", "d")]


def test_captions_have_names_of_their_own(write):
    assert refused(write("data.tsv", "1.jpg\tA dog\n"), replace(SUP, positives="captions")) == (
        "FILE: the first line has 2 columns (1.jpg, A dog), of which '1.jpg' is no known name of a column, expected a "
        "header with names such as sent, sentence, text or contradiction; add a header, or rename or remove the column"
    )
    path = write("ids.tsv", "id\tcaption\n1\ta\n1\tb\n2\tc\n2\td\n")
    assert read(path, replace(SUP, positives="captions")) == [("a", "b"), ("c", "d")]


def test_names_are_given_once(write):
    assert refused(write("data.csv", "sent0,sent0,sent0\n"), SUP) == (
        "FILE: 3 columns (sent0, sent0, sent0), of which two have one name; name every column differently"
    )


def test_supervised_training_reads_tables(write):
    assert refused(write("text.txt", "a\nb\n"), SUP) == (
        "FILE: supervised training needs pairs, expected a .csv with the columns sentence, positive and, if wanted, "
        "hard negative"
    )


@pytest.mark.parametrize("name", ["DATA.CSV", "data.Csv.GZ", "data.v2.csv.gz"])
def test_endings_in_any_case(write, name):
    text = b"sent0,sent1\na,b\nc,d\n"
    path = write(name, gzip.compress(text) if name.lower().endswith(".gz") else text)
    assert read(path, SUP) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(("name", "kind"), [("a.json", ".json"), ("a.parquet", ".parquet"), ("a.XZ", ".xz")])
def test_other_formats(write, name, kind):
    assert refused(write(name, "[1]\n"), UNSUP) == (
        f"FILE: {kind} files cannot be read, expected .txt for one sentence a line, .csv or .tsv for a table with a "
        "header, or .jsonl, each with or without .gz; convert it"
    )


@pytest.mark.parametrize("text", ["", "\n \n\t\n"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_nothing_but_blanks(write, name, text):
    assert refused(write(name, text), UNSUP, DataError) == (
        "FILE: holds no text, expected sentences; is it the right file?"
    )


@pytest.mark.parametrize(
    ("name", "text", "settings", "found"),
    [
        ("a.txt", "\none\n", UNSUP, "1 sentence beside 1 blank one"),
        ("a.csv", "text\n\n\n", UNSUP, "no sentences beside 2 blank ones"),
        ("a.csv", "sent0,sent1\n", SUP, "no examples"),
        ("a.csv", "sent0,sent1\na,b\n", SUP, "1 example"),
        ("a.csv", "sent0,sent1\na,b\n,c\n,d\n", SUP, "1 example beside 2 blank ones"),
    ],
)
def test_fewer_than_two_sentences(write, name, text, settings, found):
    sentence = refused(write(name, text), settings, DataError)
    assert sentence == f"FILE: {found}, expected at least two; is it the right file?"


@pytest.mark.parametrize(
    "text", ["sent0,sent1\na,b\nc,d\n\n\n", "\nsent0,sent1\n\na,b\n\nc,d", "sent0,sent1\r\na,b\r\n\r\nc,d\r\n"]
)
def test_empty_lines_of_a_table_are_skipped(write, text):
    assert read(write("data.csv", text), SUP) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            b"sent0,sent1\na,b\n\nc,d,e\n",
            ":4: 3 columns, expected the header's 2; quote cells that hold the separator, or name a plain text .txt",
        ),
        ("a.csv", b'sent0,"sent1\n', ":1: unexpected end of data, expected comma-separated sentences"),
        ("a.csv", b'sent0,sent1\na,"b" c\n', ":2: ',' expected after '\"', expected comma-separated sentences"),
        ("a.txt", b"caf\xe9\n", ":1: byte 0xe9 is not UTF-8; convert the file"),
    ],
)
def test_damaged_text(write, name, content, message):
    assert refused(write(name, content), UNSUP if name == "a.txt" else SUP, DataError) == f"FILE{message}"


PACKED = gzip.compress("".join(f"{number} sentences\n" for number in range(1000)).encode(), mtime=0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PACKED[:-100], "Compressed file ended before the end-of-stream marker was reached"),
        (PACKED[:10] + b"\x07" + PACKED[11:], "Error -3 while decompressing data: invalid block type"),
        (PACKED[:-8] + bytes(8), f"CRC check failed 0x0 != 0x{int.from_bytes(PACKED[-8:-4], 'little'):x}"),
    ],
    ids=["cut", "one byte", "checksum"],
)
def test_damaged_gzip(write, content, reason):
    assert refused(write("a.txt.gz", content), UNSUP, DataError) == (
        f"FILE: cannot be unpacked ({reason}), expected a whole .gz file; get it again"
    )


def test_a_file_that_cannot_be_opened(tmp_path):
    assert refused(tmp_path, UNSUP) == "FILE: no such file, expected text; check the path"


def test_the_bundled_triplets():
    rows = read(BUNDLED / "nli" / "nli_for_simcse.csv", replace(SUP, hard_negative_weight=1.0))
    assert len(rows) == 340 and {len(row) for row in rows} == {3}


@pytest.mark.shared
def test_the_measured_data(shared, tmp_path):
    triplets = read(shared / "data" / "nli" / "snli_devtest_for_simcse.csv", SUP)
    assert len(triplets) == 5883 and {len(row) for row in triplets} == {3}
    path = shutil.copy(shared / "data" / "corpora" / "flickr8k_captions.tsv.gz", tmp_path / "captions.tsv.GZ")
    assert len(read(Path(path), replace(SUP, positives="captions"))) == 80908  # by uniq -c over the images
