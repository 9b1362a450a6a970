"""Runs the examples of the documentation, and writes what they print under them.

    python tools/examples.py docs/tutorials/evaluate.md ...

In a block of `console`, a line that starts with `$ ` is a command, and the lines below it are its output. A block of
`python` is run, and a block of `text` right below it is its output. Blocks of other kinds are left as they are. A page
runs in an empty folder with one memory for its Python; its first line says what else it needs there:

    <!-- examples: data -->       the folder SentEval/data
    <!-- examples: results -->    the project's own results as `results`

A notebook (.ipynb) runs in its own folder, and its outputs are replaced.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```\n(?:\n?```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_SECONDS = re.compile(r"\d+\.\d s\b")
_PROGRESS = re.compile(r"bench: [\w -]+: [\d,]+( of [\d,]+)?(,.*)?$")  # a line a minute, on slow machines alone


def needs(page: str) -> set[str]:
    """What the page's first line asks for: `data`, `results`, or `skip` where its examples cost too much."""
    found = re.match(r"<!-- examples: (.*?) -->", page)
    return set(found[1].split(", ")) if found else set()


def available(page: str) -> bool:
    """Whether everything is here that the page's examples need."""
    wanted = needs(page)
    return "skip" not in wanted and ("data" not in wanted or (SHARED / "data/senteval").is_dir())


def run_page(page: str, folder: Path, cache: Path) -> str:
    """The page with what its examples print today.

    Raises:
        RuntimeError: if a command fails.
    """
    if "data" in needs(page):
        (folder / "SentEval").mkdir()
        (folder / "SentEval/data").symlink_to(SHARED / "data/senteval")
    if "results" in needs(page):
        (folder / "results").symlink_to(ROOT / "results")
    settings = {"BENCH_CACHE_DIR": str(cache), "BENCH_OFFLINE": "1", "COLUMNS": "100", "NO_COLOR": "1"}
    environment = {**os.environ, **settings, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    memory: dict[str, object] = {"__name__": "__main__"}

    def renew(block: re.Match[str]) -> str:
        kind, body, printed = block.groups()
        if kind == "console":
            commands = [line[2:] for line in _continued(body) if line.startswith("$ ")]
            outputs = [f"$ {command}\n{_shell(command, folder, environment)}" for command in commands]
            return f"```console\n{''.join(outputs)}```\n"
        said = _python(body, memory, folder)
        return f"```python\n{body}```\n" + ("" if printed is None else f"\n```text\n{said}```\n")

    return _BLOCK.sub(renew, page)


def same(old: str, new: str) -> bool:
    """Whether two versions of a page differ in nothing but seconds."""
    return _SECONDS.sub("0.0 s", old) == _SECONDS.sub("0.0 s", new)


def run_notebook(path: Path) -> Any:
    """The notebook (an nbformat node) with the outputs of today; warnings on stderr are left out.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata = {}
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def texts(notebook: Any) -> list[str]:
    """What the cells print and return, as plain text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.get("text") or output["data"]["text/plain"] for output in outputs]


def _continued(body: str) -> list[str]:
    """Lines of a block; a command that ends with a backslash goes on in the next line."""
    lines: list[str] = []
    for line in body.split("\n"):
        if lines and lines[-1].endswith("\\"):
            lines[-1] += "\n" + line
        else:
            lines.append(line)
    return lines


def _shell(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stdout}")
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines() if not _PROGRESS.match(line))


def _python(code: str, memory: dict[str, object], folder: Path) -> str:
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(compile(code, "example", "exec"), memory)
    return "".join(f"{line.rstrip()}\n" for line in printed.getvalue().splitlines())


def _notebook_text(notebook: Any) -> str:
    import nbformat

    return str(nbformat.writes(notebook)) + "\n"


def main(paths: list[Path]) -> None:
    """Run the pages, one after the other, with one cache."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"BENCH_CACHE_DIR": cache, "BENCH_OFFLINE": "1"}
        for path in paths:
            if path.suffix == ".ipynb":
                path.write_text(_notebook_text(run_notebook(path)), encoding="utf-8")
                print(path)
                continue
            page = path.read_text(encoding="utf-8")
            if not available(page):
                print(f"{path}: left as it is")
                continue
            with tempfile.TemporaryDirectory() as folder:
                path.write_text(run_page(page, Path(folder), Path(cache)), encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
