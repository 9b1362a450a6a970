"""The package's own data files, each held to its digest before it is read.

`package_digests.json` names every file of the package that is not Python. `python -m harness.packaged` writes it anew
after one of them was changed on purpose.
"""

import json
from functools import cache
from pathlib import Path

from harness.errors import DataError
from harness.files import replace, sha256

ROOT = Path(__file__).parents[1]  # the folder in which the packages harness and baselines lie
DIGESTS = ROOT / "harness" / "package_digests.json"
_PACKAGES = ("harness", "baselines")
_REINSTALL = "reinstall simcse-bench, or run `python -m harness.packaged` if the change is yours"


@cache
def packaged(name: str) -> Path:
    """Check a file of the package, such as `harness/data/manifest.json`, against its digest, and give its place.

    Raises:
        DataError: if the file is missing or damaged, or the list of digests does not name it.
    """
    path = ROOT / name
    digests = _digests()
    if name not in digests:
        raise DataError(f"{path}: not in {DIGESTS}, expected every packaged file there; {_REINSTALL}")
    try:
        found = sha256(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}), expected it as part of the package; {_REINSTALL}"
        ) from error
    if found != digests[name]:
        raise DataError(f"{path}: sha256 is {found}, expected {digests[name]}; the file is damaged: {_REINSTALL}")
    return path


@cache
def packaged_folder(name: str) -> Path:
    """Check every file of a folder such as `baselines/assets/tiny`, those that the list names and those that are there.

    Raises:
        DataError: see `packaged`; also if the list names no file of the folder.
    """
    listed = [file for file in _digests() if file.startswith(f"{name}/")]
    if not listed:
        raise DataError(f"{ROOT / name}: no file of it is in {DIGESTS}, expected every one there; {_REINSTALL}")
    for file in sorted({*listed, *_data_files(ROOT / name)}):
        packaged(file)
    return ROOT / name


@cache
def _digests() -> dict[str, str]:
    try:
        digests = json.loads(DIGESTS.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{DIGESTS}: cannot be read ({error}), expected the package's list of digests; {_REINSTALL}"
        ) from error
    if not isinstance(digests, dict):
        raise DataError(f"{DIGESTS}: holds a {type(digests).__name__}, expected names and digests; {_REINSTALL}")
    return digests


def _data_files(folder: Path) -> list[str]:
    """Names of all files below a folder that are data: neither Python nor the list itself."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [
        path.relative_to(ROOT).as_posix()
        for path in paths
        if path.suffix != ".py" and path.name != "py.typed" and path != DIGESTS
    ]


def write_digests() -> None:
    """Write the list of digests anew from the files that are there."""
    names = sorted(name for package in _PACKAGES for name in _data_files(ROOT / package))
    replace(DIGESTS, (json.dumps({name: sha256(ROOT / name) for name in names}, indent=1) + "\n").encode())


if __name__ == "__main__":
    write_digests()
