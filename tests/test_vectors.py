"""Word vectors: what the parser accepts and refuses, that the arrays are made once, and the averages."""

import gzip
import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from baselines import vectors
from baselines.glove import AverageVectors, GloveParameters, average, fit_common_component, remove_component
from baselines.vectors import WordVectors, open_vectors
from harness.errors import DataError, UsageError
from harness.names import EncoderCard

TEXT = """the 1 0 0
The 0 1 0
. 0.5 -0.5 0
cat 0 0 2
. . . 7 8 9
at name@domain.com -1e-2 +2 3.
Zürich 1 2 3
the 9 9 9
"""
WORDS = ["the", "The", ".", "cat", ". . .", "at name@domain.com", "Zürich"]
VALUES = [[1, 0, 0], [0, 1, 0], [0.5, -0.5, 0], [0, 0, 2], [7, 8, 9], [-0.01, 2, 3], [1, 2, 3]]


def write(folder: Path, text: str, name: str = "words.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def words(tmp_path) -> WordVectors:
    return open_vectors(write(tmp_path, TEXT), tmp_path / "cache")


def pack(folder: Path, form: str) -> Path:
    if form == "gz":
        path = folder / "words.txt.gz"
        path.write_bytes(gzip.compress(TEXT.encode()))
        return path
    if form == "zip":
        path = folder / "words.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("words.txt", TEXT)
        return path
    text = {
        "plain": TEXT,
        "header": "8 3\n" + TEXT,
        "trailing spaces": TEXT.replace("\n", " \n"),
        "windows": TEXT.replace("\n", "\r\n"),
        "no last newline": TEXT.rstrip("\n"),
    }[form]
    return write(folder, text)


@pytest.mark.parametrize("form", ["plain", "header", "trailing spaces", "windows", "no last newline", "gz", "zip"])
@pytest.mark.parametrize("block", [1, 1 << 24], ids=["line by line", "at once"])
def test_reads(tmp_path, monkeypatch, form, block):
    monkeypatch.setattr(vectors, "_BLOCK_BYTES", block)
    words = open_vectors(pack(tmp_path, form), tmp_path / "cache")
    assert words.dim == 3
    assert words.find(WORDS).tolist() == [0, 1, 2, 3, 4, 5, 6]  # "the" is the first of two
    assert words.matrix[:7].tolist() == np.float32(VALUES).tolist()
    assert words.find(["dog", "", "at", "name@domain.com", "THE", "zürich"]).tolist() == [-1] * 6
    assert len(words.keys) == 7


def test_the_digest_is_of_the_unpacked_text(tmp_path):
    digests = {open_vectors(pack(tmp_path, form), tmp_path / "cache").sha256 for form in ("plain", "gz", "zip")}
    assert digests == {hashlib.sha256(TEXT.encode()).hexdigest()}


def test_first_word_may_be_a_number(tmp_path):
    words = open_vectors(write(tmp_path, "1 0.5 0.25\n2 1 1\n"), tmp_path / "cache")
    assert words.matrix.tolist() == [[0.5, 0.25], [1, 1]]


def test_values_are_the_nearest_float32(tmp_path):
    values = np.random.default_rng(0).standard_normal((200, 7)).astype(np.float32)
    text = "".join(f"w{row} " + " ".join(f"{value:.9g}" for value in line) + "\n" for row, line in enumerate(values))
    assert np.array_equal(open_vectors(write(tmp_path, text), tmp_path / "cache").matrix, values)


def stored(cache):
    return sorted(cache.glob("*.safetensors"))


def test_arrays_are_made_once_and_again_when_the_text_changes(tmp_path, monkeypatch):
    path, cache = write(tmp_path, TEXT), tmp_path / "cache"
    first = open_vectors(path, cache)
    with monkeypatch.context() as patched:
        patched.delattr(vectors, "_read")
        assert np.array_equal(open_vectors(path, cache).matrix, first.matrix)
    status = path.stat()
    path.write_bytes(TEXT.replace("cat 0", "cat 4").encode())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # equal in size and time
    assert open_vectors(path, cache).matrix[3].tolist() == [4, 0, 2]
    assert len(stored(cache)) == 2


def test_a_parse_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    path, cache = write(tmp_path, TEXT), tmp_path / "cache"
    with monkeypatch.context() as patched:
        patched.setattr(vectors, "_index", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            open_vectors(path, cache)
    assert list(cache.iterdir()) == []
    assert open_vectors(path, cache).find(["cat"]).tolist() == [3]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95, None])
def test_damaged_arrays_are_named_and_made_anew(tmp_path, caplog, share):
    path, cache = write(tmp_path, TEXT * 40), tmp_path / "cache"
    whole = open_vectors(path, cache)
    (file,) = stored(cache)
    content = bytearray(file.read_bytes())
    if share is None:
        content.clear()
    else:
        start = int(len(content) * share)
        content[start : start + 64] = os.urandom(64)
    file.unlink()  # what is mapped stays as it is
    file.write_bytes(content)
    again = open_vectors(path, cache)
    assert [message.partition(" (")[0] for message in caplog.messages] == [f"{file}: cannot be used"]
    assert again.sha256 == whole.sha256
    for part in ("matrix", "keys", "rows"):
        assert np.array_equal(getattr(again, part), getattr(whole, part))


def test_a_cache_that_refuses_costs_time_and_no_vectors(tmp_path):
    (tmp_path / "cache").write_text("no folder")
    assert open_vectors(write(tmp_path, TEXT), tmp_path / "cache").matrix[:7].tolist() == np.float32(VALUES).tolist()


def test_a_cache_that_is_full_costs_time_and_no_vectors(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(vectors.tempfile, "TemporaryFile", lambda dir: Path("/dev/full").open("wb"))
    assert open_vectors(write(tmp_path, TEXT), tmp_path / "cache").matrix[:7].tolist() == np.float32(VALUES).tolist()
    assert caplog.messages == [
        f"{tmp_path}/cache: cannot be written (No space left on device); make room or give write permission, or name "
        "another folder; the word vectors are read into memory"
    ]


def in_binary(text, between=b"\n"):
    lines = [line.rsplit(" ", 3) for line in text.splitlines()]
    content = f"{len(lines)} 3\n".encode()
    return content + b"".join(
        word.encode() + b" " + np.array(numbers, "<f4").tobytes() + between for word, *numbers in lines
    )


PLAIN_WORDS = TEXT.replace(". . .", "...").replace("at name", "at_name")  # the binary layout ends a word at a space
LAYOUTS = {
    "a mark at the start": b"\xef\xbb\xbf" + TEXT.encode(),
    "a mark and counts": b"\xef\xbb\xbf8 3\n" + TEXT.encode(),
    "tabs": b"".join(b"\t".join(line.rsplit(b" ", 3)) + b"\n" for line in TEXT.encode().splitlines()),
    "blank last lines": TEXT.encode() + b"\n \n\n",
    "word2vec's binary layout": in_binary(PLAIN_WORDS),
    "binary without line ends": in_binary(PLAIN_WORDS, b""),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize("block", [1, 30, 1 << 24], ids=["byte by byte", "piece by piece", "at once"])
def test_other_layouts(tmp_path, monkeypatch, layout, pack, block):
    monkeypatch.setattr(vectors, "_BLOCK_BYTES", block)
    path = tmp_path / "words.BIN"
    path.write_bytes(pack(LAYOUTS[layout]))
    words = open_vectors(path, tmp_path / "cache")
    names = [w.replace(" ", "" if w.startswith(".") else "_") for w in WORDS] if "inary" in layout else WORDS
    assert words.find(names).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert words.matrix[:7].tolist() == np.float32(VALUES).tolist()


def test_a_zip_as_macos_makes_it(tmp_path):
    path = tmp_path / "MAC.ZIP"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("words.txt", TEXT)
        archive.writestr("__MACOSX/._words.txt", bytes(100))
        archive.writestr(".DS_Store", bytes(100))
    assert open_vectors(path, tmp_path / "cache").find(WORDS).tolist() == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (in_binary(PLAIN_WORDS)[:-9], ": ends within vector 8 of 8; the file is truncated, download it again"),
        (b"9" + in_binary(PLAIN_WORDS)[1:], ": found 8 vectors, expected 9 as its first line says; the file is "
         "truncated, download it again"),
        (in_binary("a 1 2 3\nb 1 nan 3\n"), ": vector 2 has a number that is not finite; the file is damaged, download "
         "it again"),
        (b"\xba\x16\x4f\x2f" + bytes(50), ": the file is fastText's own .bin, expected a text of vectors or word2vec's "
         "binary layout; convert it"),
        (b"\x80\x04\x95" + bytes(50), ": the file is binary and does not begin with two numbers, expected a text of "
         "vectors or word2vec's binary layout; convert it"),
    ],
    ids=["cut", "fewer than promised", "nan", "fastText", "a pickle"],
)  # fmt: skip
def test_binary_files_that_are_refused(tmp_path, content, message):
    path = tmp_path / "words.bin"
    path.write_bytes(content)
    with pytest.raises((DataError, UsageError)) as caught:
        open_vectors(path, tmp_path / "cache")
    assert str(caught.value) == f"{path}{message}"


DAMAGED = "the file is truncated or damaged, download it again"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a 1 2 3\nb 1 2\n", f":2: found 2 numbers, expected 3 after the word; {DAMAGED}", id="too few"),
        pytest.param("a 1 2\nb 1 2 3\n", f":2: found 3 numbers, expected 2 after the word; {DAMAGED}", id="too many"),
        pytest.param("a 1 2\n\nb 1 2\n", f":2: found 0 numbers, expected 2 after the word; {DAMAGED}", id="blank"),
        pytest.param("2 3\na 1 2 3\nb 1", f":3: found 1 numbers, expected 3 after the word; {DAMAGED}", id="cut"),
        pytest.param(
            "a 1 2\nb 1 x\n",
            ":2: found 'x', expected a finite number; the file is damaged, download it again",
            id="no number",
        ),
        pytest.param(
            "a 1 2\nb 1 nan\n",
            ":2: found 'nan', expected a finite number; the file is damaged, download it again",
            id="nan",
        ),
        pytest.param(
            "a 1 2\nb 1e39 2\n",
            ":2: found '1e39', expected a finite number; the file is damaged, download it again",
            id="too large for float32",
        ),
        pytest.param(
            "a 1 2\nb c 2\n",
            ":2: found 'c', expected a finite number; the file is damaged, download it again",
            id="word with a space and too few numbers",
        ),
        pytest.param(
            "3 2\na 1 2\nb 1 2\n",
            ": found 2 vectors, expected 3 as its first line says; the file is truncated, download it again",
            id="fewer lines than promised",
        ),
        pytest.param("", ":1: found b'', expected a word and its numbers; is it a text of vectors?", id="empty"),
        pytest.param(
            "<!DOCTYPE html>\n",
            ":1: found b'<!DOCTYPE html>\\n', expected a word and its numbers; is it a text of vectors?",
            id="a web page",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        open_vectors(path, tmp_path / "cache")
    assert str(caught.value) == f"{path}{message}"
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_bad_line_of_an_archive_is_named(tmp_path):
    path = tmp_path / "words.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("words.50d.txt", "a 1 2\nb 1\n")
    with pytest.raises(DataError) as caught:
        open_vectors(path, tmp_path / "cache")
    assert str(caught.value) == f"{path}(words.50d.txt):2: found 1 numbers, expected 2 after the word; {DAMAGED}"


@pytest.mark.parametrize("name", ["words.txt", "words.txt.gz", "words.zip"])
def test_files_that_cannot_be_read(tmp_path, name):
    path, cache = tmp_path / name, tmp_path / "cache"
    for content in [None] if name == "words.txt" else [None, pack(tmp_path, path.suffix[1:]).read_bytes()[:40]]:
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            open_vectors(path, cache)
        assert str(caught.value).startswith(f"{path}: the word vectors cannot be read (")
        assert str(caught.value).endswith("; if it is damaged, download it again")


def test_an_archive_with_several_files_needs_a_name(tmp_path):
    path = tmp_path / "glove.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("glove.1d.txt", "a 1\n")
        archive.writestr("glove.2d.txt", "a 1 2\n")
    assert open_vectors(path, tmp_path / "cache", "glove.2d.txt").dim == 2
    assert open_vectors(path, tmp_path / "cache", "glove.1d.txt").dim == 1
    has = "it has glove.1d.txt, glove.2d.txt"
    for member, message in {
        None: f"the archive has 2 files, expected one; name it with member=FILE; {has}",
        "glove.3d.txt": f"member=glove.3d.txt is not in the archive; {has}",
    }.items():
        with pytest.raises(UsageError) as caught:
            open_vectors(path, tmp_path / "cache", member)
        assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        pytest.param(["the", "cat"], [0.5, 0, 1], id="mean"),
        pytest.param(["the", "the", "cat"], [2 / 3, 0, 2 / 3], id="with multiplicity"),
        pytest.param(["the", "dog", "cat"], [0.5, 0, 1], id="unknown words count nowhere"),
        pytest.param(["The"], [0, 1, 0], id="case matters"),
        pytest.param(["THE"], [0, 0, 0], id="nothing known: zero"),
        pytest.param([], [0.5, -0.5, 0], id="empty: a full stop"),
        pytest.param([". . ."], [7, 8, 9], id="a word with spaces"),
    ],
)
def test_average_by_hand(words, sentence, expected):
    found = average(words, [sentence])
    assert found.dtype == np.float32
    assert found.tolist() == [np.float32(expected).tolist()]


@pytest.mark.parametrize(
    ("bag", "expected"),
    [
        pytest.param({}, [0.25, 0.25, 0], id="as they are"),
        pytest.param({"lower": True}, [0.75, -0.25, 0], id="lower: The becomes the"),
        pytest.param({"stop_words": True}, [0, 0, 0], id="The and . are stop words"),
    ],
)
def test_casing_and_stop_words(words, bag, expected):
    assert average(words, [["The", "."]], **bag).tolist() == [expected]


def test_stop_words_leave_the_rest(words):
    assert average(words, [["The", "cat", ",", "the"]], stop_words=True).tolist() == [[0, 0, 2]]


def test_smooth_inverse_frequency_by_hand(words):
    zipf = 1 / (np.arange(1, 9) * sum(1 / rank for rank in range(1, 9)))
    weight = 0.01 / (0.01 + zipf)
    expected = (2 * weight[0] * np.array([1, 0, 0]) + weight[3] * np.array([0, 0, 2])) / 3
    found = average(words, [["the", "cat", "dog", "the"]], sif=0.01)
    assert found[0] == pytest.approx(expected, rel=1e-6)


def test_common_component():
    rng = np.random.default_rng(0)
    x = rng.normal([3, 0, 0, 1, 0], 1, (300, 5)).astype(np.float32)
    component = fit_common_component(x)
    reference = np.linalg.svd(x.astype(np.float64))[2][0]
    assert abs(component @ reference) == pytest.approx(1, abs=1e-12)
    rest = remove_component(x, component)
    assert rest.dtype == np.float32
    assert rest @ component == pytest.approx(np.zeros(300), abs=1e-5)
    assert rest == pytest.approx(x - np.outer(x @ reference, reference), abs=1e-5)


def test_rows_do_not_depend_on_word_order_or_neighbours(tmp_path):
    rng = np.random.default_rng(1)
    text = "".join(
        f"w{row} " + " ".join(f"{value:.5f}" for value in rng.standard_normal(20)) + "\n" for row in range(99)
    )
    words = open_vectors(write(tmp_path, text), tmp_path / "cache")
    sentences = [[f"w{number}" for number in rng.integers(0, 120, size=length)] for length in range(1, 60)]
    together = average(words, sentences, sif=1e-3)
    for sentence, row in zip(sentences, together, strict=True):
        assert np.array_equal(average(words, [list(reversed(sentence))], sif=1e-3)[0], row)
    assert average(words, []).shape == (0, 20)


def test_many_sentences_equal_a_plain_loop(words):
    rng = np.random.default_rng(2)
    table = dict(zip(WORDS, VALUES, strict=True))
    sentences = [list(rng.choice([*WORDS, "dog"], size=rng.integers(1, 9))) for _ in range(500)]
    found = average(words, sentences)
    for sentence, row in zip(sentences, found, strict=True):
        known = [table[token] for token in sentence if token in table]
        assert row == pytest.approx(np.mean(known, axis=0) if known else np.zeros(3), abs=1e-6)


def test_no_overlap_is_an_error(words):
    card = EncoderCard(name="words", method="avg-glove", dim=3)
    plain = AverageVectors(words, card, GloveParameters())
    plain.encode(["dog", "the"])
    with pytest.raises(DataError) as caught:
        plain.encode(["THE dog", "dog"])
    assert str(caught.value) == (
        "words.txt: none of the 2 different tokens of 2 sentences is among its 7 words, expected some; is it of "
        "another language or case?"
    )
    AverageVectors(words, card, GloveParameters(lower=True)).encode(["THE dog", "dog"])
