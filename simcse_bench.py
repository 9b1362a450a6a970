"""Where the scripts `bench` and `simcse-bench` begin: it makes sure that the packages they run are this project's own.

The import names `harness` and `baselines` belong to other projects too. Where one of those is installed beside this
project, its files replace ours, or are found before them; the scripts say so instead of running a stranger's program.
"""

import os
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

_NAME = "simcse-bench"
_PACKAGES = ("harness", "baselines")
_AGAIN = f"`pip install --force-reinstall --no-deps {_NAME}` brings ours back"


def main() -> None:
    """Run the command line, or end with one sentence and exit code 2 where its modules are not this project's.

    Windows ends so too; `import harness` says the same there.
    """
    if os.name == "nt":
        sys.stderr.write("bench: needs the file locks of POSIX, which Windows lacks; use WSL 2, which is Linux\n")
        raise SystemExit(2)
    if found := overwritten():
        sys.stderr.write(f"bench: {found}\n")
        raise SystemExit(2)
    from harness.cli.main import main as command_line

    command_line()


def overwritten() -> str | None:
    """The sentence about the first module that is missing or another distribution's; None where all are ours."""
    for file, size in _modules():
        there = file.is_file()
        if there and size in (None, file.stat().st_size):
            continue
        owner = _owner(file)
        if there and not owner:
            continue  # changed by hand
        what = f"was replaced by {owner}" if there else "is missing"
        cure = f"`pip uninstall {owner.split()[0]}` removes that, and " if owner else ""
        return f"{file}: {what}, expected the file of {_NAME}; {cure}{_AGAIN}"
    for name in _PACKAGES:
        spec, ours = find_spec(name), Path(__file__).with_name(name)
        if spec is None or Path(spec.origin or "").parent.resolve() != ours.resolve():
            place = "nowhere" if spec is None else Path(spec.origin or "?").parent
            return f"the package {name} is found in {place}, expected {ours}; remove it, or run in another folder"
    return None


def _modules() -> Iterator[tuple[Path, int | None]]:
    """Our modules as they were installed, with their sizes; none where the installation only points to a checkout."""
    try:
        files = metadata.files(_NAME) or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.parts[0] in _PACKAGES and file.suffix == ".py":
            yield Path(str(file.locate())), file.size


def _owner(file: Path) -> str:
    """Name and version of another distribution that installed a file of that place; empty where there is none."""
    for other in metadata.distributions():
        if other.metadata["Name"] != _NAME and any(Path(str(own.locate())) == file for own in other.files or ()):
            return f"{other.metadata['Name']} {other.version}"
    return ""
