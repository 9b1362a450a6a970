"""The documentation: its examples run, its commands exist, and its files are where it says."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import typer

from harness.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
sys.path.insert(0, str(ROOT / "tools"))

from examples import available, needs, run_notebook, run_page, same, texts  # noqa: E402

_COMMAND = re.compile(r"^(?:    |\$ )(?:.*; )?(bench (?:\\\n|[^|;#\n])*)", re.MULTILINE)
_INLINE = re.compile(r"`(bench [a-z][^`\n]*)`")


def options_of(words):
    """The command that the words begin with, and the options that it takes."""
    command = typer.main.get_command(app)
    path = []
    for word in words:
        if word not in getattr(command, "commands", {}):
            break
        command = command.commands[word]
        path.append(word)
    return path, {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_command_of_the_pages_exists_and_takes_its_options(path):
    text = path.read_text(encoding="utf-8")
    for line in [*_COMMAND.findall(text), *_INLINE.findall(text)]:
        if "COMMAND" in line or line == "bench --install-completion":
            continue
        words = shlex.split(line.replace("\\\n", " "))[1:]
        named, options = options_of(words)
        assert named or words[0].startswith("-"), f"{line}: no such command"
        for word in words:
            if word.startswith("-") and len(word) > 1 and not word.lstrip("-")[:1].isdigit():
                assert word.split("=")[0] in {*options, "--help", "--version", "-h"}, f"{line}: {word}"


def test_every_file_of_the_architecture_is_there():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:harness|baselines|tests)/[a-z_./]+)`", text):
        assert (ROOT / name).exists(), name


def test_the_picture_of_the_architecture_names_every_folder_and_module():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    picture = text.partition("## One picture")[2].partition("## The packages")[0]
    there = {
        path.stem for path in (ROOT / "harness").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert there - {"__init__", "__main__"} <= set(re.findall(r"\w+", picture))


def test_the_layers_of_the_architecture_are_those_of_the_test():
    from test_layers import MAY_IMPORT

    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for layer in MAY_IMPORT:
        assert layer == "__main__" or layer in text, layer


def test_a_slow_machine_writes_no_progress_into_the_pages(tmp_path):
    line = "bench: training: 10 of 20, loss 0.1234, about 2 min left"
    page = "```console\n$ echo %s\n%s```\n"
    assert run_page(page % (f"'{line}' >&2; echo done", ""), tmp_path, tmp_path).endswith("echo done\ndone\n```\n")


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_examples_print_what_the_page_says(path, tmp_path, tmp_path_factory):
    page = path.read_text(encoding="utf-8")
    if not re.search(r"^```(console|python)$", page, re.MULTILINE):
        pytest.skip("no examples")
    if not available(page):
        pytest.skip(f"needs {', '.join(needs(page))}")
    assert same(page, run_page(page, tmp_path, tmp_path_factory.mktemp("cache")))


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "docs/notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_runs_and_prints_what_it_holds(path):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    assert texts(run_notebook(path)) == texts(nbformat.read(path, as_version=4))
