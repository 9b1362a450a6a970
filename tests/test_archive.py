"""Archives: files and folders come out whole, and everything else is one sentence with nothing left behind."""

import gzip
import io
import random
import tarfile

import pytest

from harness.data import archive as module
from harness.data.archive import unpack
from harness.errors import DataError

NAME = "SentEval/downstream/a.txt"
TEXT = " ".join(random.Random(0).choices("the cat dog runs over old red box".split(), k=3000)).encode()


def member(name, kind=tarfile.REGTYPE, link="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, 0o755
    return info


def packed(*members, mode="w", content=TEXT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        tar.addfile(member(NAME, size=len(content)), io.BytesIO(content))
        for info in members:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def tried(tmp_path, content):
    """What unpacking gives: the text of the one file, or the sentence; nothing else may be raised."""
    (tmp_path / "a.tar").write_bytes(content)
    try:
        return (unpack(tmp_path / "a.tar", tmp_path / "got", holding="downstream") / "downstream/a.txt").read_bytes()
    except DataError as error:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]
        assert str(error).startswith(f"{tmp_path / 'a.tar'}: ")
        return str(error)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_whole_archives_are_unpacked(tmp_path, mode):
    assert tried(tmp_path, packed(mode=mode)) == TEXT


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_a_wrong_byte_of_a_compressed_archive_never_gives_other_content(tmp_path, mode):
    whole = packed(mode=mode)
    for at in range(10, len(whole), 29):
        found = tried(tmp_path, whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert found == TEXT or isinstance(found, str)
        if found == TEXT:
            module.shutil.rmtree(tmp_path / "got")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_cut_archive_is_damaged(tmp_path, mode, share):
    whole = packed(mode=mode)
    end = len(whole) if mode != "w" else 512 + 512 * -(-len(TEXT) // 512)  # a tar is padded with zeros behind its end
    assert "damaged as a tar archive" in tried(tmp_path, whole[: int(end * share)])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(member("../evil"), "'../evil', which climbs out through '..'", id="dots"),
        pytest.param(member("a/../../evil"), "'a/../../evil', which climbs out through '..'", id="dots inside"),
        pytest.param(member("/evil"), "'/evil', which has an absolute path", id="absolute"),
        pytest.param(member("out", tarfile.SYMTYPE, "../.."), "'out', which links to '../..'", id="symlink"),
        pytest.param(member("in", tarfile.SYMTYPE, "a.txt"), "'in', which links to 'a.txt'", id="symlink inside"),
        pytest.param(member("out", tarfile.LNKTYPE, "nothing"), "'out', which links to 'nothing'", id="hard link"),
        pytest.param(member("pipe", tarfile.FIFOTYPE), "'pipe', which is a device or a pipe", id="pipe"),
        pytest.param(member("tape", tarfile.CHRTYPE), "'tape', which is a device or a pipe", id="device"),
    ],
)
def test_all_but_files_and_folders_within_are_refused(tmp_path, bad, reason):
    assert tried(tmp_path, packed(bad)) == (
        f"{tmp_path / 'a.tar'}: it holds member {reason}, expected plain files and folders within it, of SentEval's "
        "size; do not trust this file, nothing of it was kept: give --data-dir a folder in SentEval's layout"
    )


def test_a_chain_of_links_does_not_lead_outside(tmp_path):
    """CVE-2025-4517: some Pythons' own filter lets such a chain write outside the folder."""
    long, path = "d" * 247, ""
    members = []
    for step in "abcdefghijklmnop":
        members += [member(f"{path}{long}", tarfile.DIRTYPE), member(f"{path}{step}", tarfile.SYMTYPE, long)]
        path = f"{path}{long}/"
    link = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    members += [member(link, tarfile.SYMTYPE, "../" * 16), member("escape", tarfile.SYMTYPE, link + "/../outside")]
    assert "which links to" in tried(tmp_path, packed(*members, member("escape/new", size=10)))


def test_limits_on_bytes_and_members(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 100_000)
    monkeypatch.setattr(module, "MOST_MEMBERS", 50)
    assert "more than 100,000 bytes of content, with member 'big'" in tried(
        tmp_path, packed(member("big", size=99_000))
    )
    assert "more than 50 members" in tried(tmp_path, packed(*[member(f"f{n}") for n in range(60)]))
    bomb = gzip.compress(packed() + bytes(300_000))
    assert "more than 100,000 bytes behind its end" in tried(tmp_path, bomb)


def test_a_sparse_member_counts_with_the_size_that_it_unpacks_to(tmp_path):
    sparse = member("SentEval/sparse", tarfile.GNUTYPE_SPARSE, size=0)
    block = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"\x80" + (8 << 40).to_bytes(11, "big")
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    found = tried(tmp_path, bytes(block) + packed())
    assert "more than 2,147,483,648 bytes of content" in found


def test_an_archive_that_may_not_be_read_is_not_a_failed_write(tmp_path):
    with pytest.raises(DataError, match=r"a\.tar: cannot be read \(Is a directory\), expected a tar archive"):
        (tmp_path / "a.tar").mkdir()
        unpack(tmp_path / "a.tar", tmp_path / "got", holding="downstream")


def test_too_little_memory_is_said(tmp_path, monkeypatch):
    def greedy(*args, **options):
        raise MemoryError

    monkeypatch.setattr(tarfile, "open", greedy)
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(DataError, match="there is too little memory to unpack it"):
        unpack(tmp_path / "a.tar", tmp_path / "got", holding="downstream")
