"""Lays out the pages that the site is built of, in build/pages: those of docs, and those generated from the code.

    python tools/site_pages.py

Pages of docs may link to any file of the repository, as a reader of the repository expects. The site has pictures only:
they are copied; the name of another file is written out.
"""

import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from nbconvert import MarkdownExporter

from harness.cli.main import app
from harness.data.records import datasets
from harness.encoders.entry import declared
from harness.encoders.registry import known_encoders
from harness.names import value_text
from harness.tasks.suites import SUITES, TASKS

ROOT = Path(__file__).parents[1]
DOCS, PAGES = ROOT / "docs", ROOT / "build" / "pages"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)\)")


def commands() -> Iterator[str]:
    """The page of the command line: each command with its arguments and options."""
    yield "# Command line\n\nThis page is generated from the program. `bench COMMAND --help` prints the same.\n"
    yield from _variables(typer.main.get_command(app))
    yield from _command("bench", typer.main.get_command(app), level=2)


def _variables(root: Any) -> Iterator[str]:
    """The table of the variables of the environment, which options they set, and of which commands."""
    users: dict[tuple[str, str], list[str]] = {}
    for name, parameter in _parameters("bench", root):
        if parameter.param_type_name == "option" and parameter.envvar:
            users.setdefault((parameter.envvar, parameter.opts[0]), []).append(name.removeprefix("bench "))
    yield (
        "## Variables of the environment\n\nWhat is typed comes before them. `--set`, which can be repeated, takes "
        "several values with a space between.\n\n| variable | option | of `bench` ... |\n| --- | --- | --- |"
    )
    rows = (f"| `{variable}` | `{option}` | {', '.join(of)} |" for (variable, option), of in sorted(users.items()))
    yield "\n".join(rows) + "\n"


def _parameters(name: str, one: Any) -> Iterator[tuple[str, Any]]:
    """Every parameter of a command and of those below it, with the command's name."""
    yield from ((name, parameter) for parameter in one.params)
    for child, command in getattr(one, "commands", {}).items():
        yield from _parameters(f"{name} {child}", command)


def _command(name: str, one: Any, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{name}`\n\n{_text(one)}\n"
    rows = [_row(parameter) for parameter in one.params if parameter.name != "help"]
    if rows:
        yield "| option | meaning | default | variable |\n| --- | --- | --- | --- |"
        yield "\n".join(rows) + "\n"
    for child, command in getattr(one, "commands", {}).items():
        yield from _command(f"{name} {child}", command, level + 1)


def _text(command: Any) -> str:
    """The help text; an indented or `For example` line stays as it is."""
    return inspect.cleandoc(command.help or "").replace("\\[", "[").replace("\b", "")


def _row(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    names = (
        f"`{(parameter.metavar or parameter.name).upper()}`"
        if argument
        else ", ".join(f"`{name}`" for name in parameter.opts)
    )
    default = "" if parameter.default in (None, False, "", ()) else f"`{parameter.default}`"
    default = "required" if parameter.required else default
    variable = f"`{parameter.envvar}`" if parameter.envvar else ""
    meaning = (getattr(parameter, "help", "") or "").replace("\\[", "[").replace("|", "\\|")
    return f"| {names} | {meaning} | {default} | {variable} |"


def encoders() -> Iterator[str]:
    """The page of the encoders: each method with its parameters."""
    yield (
        "# Encoders and their parameters\n\nThis page is generated from the program; `bench list models NAME` prints "
        "the same. A specification is `name[parameter=value,...]`; what is not given has its default.\n"
    )
    for entry in known_encoders().values():
        yield f"## `{entry.name}`\n\n{entry.summary[:1].upper()}{entry.summary[1:]}.\n"
        found = declared(entry)
        if found:
            yield "| parameter | default | values | meaning |\n| --- | --- | --- | --- |"
            yield "\n".join(
                f"| `{p.name}` | {_code(value_text(p.default))} | {' '.join(p.choices) or p.bounds} | {_cell(p.help)} |"
                for p in found
            )
            yield ""


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def tasks() -> Iterator[str]:
    """The page of the tasks, the suites and the data files."""
    yield "# Tasks, suites and data files\n\nThis page is generated from the program.\n\n## Suites\n"
    yield "| suite | tasks |\n| --- | --- |"
    yield "\n".join(f"| `{name}` | {' '.join(names)} |" for name, names in SUITES.items())
    yield "\n## Tasks\n\n| task | what it is | protocol | main score |\n| --- | --- | --- | --- |"
    yield "\n".join(f"| `{t.name}` | {t.title} | `{t.protocol}` | `{t.metric}` |" for t in TASKS.values())
    yield "\n## Data files\n\n`bench data check` holds your copy to these facts.\n"
    for dataset in datasets().values():
        yield f"### {dataset.title}\n\n{dataset.paper}\n\nLicence: {dataset.licence}\n"
        yield "| file | lines | sha256 of the copy that the numbers were measured on |\n| --- | ---: | --- |"
        for path, facts in dataset.files.items():
            digest = f"`{facts.sha256[:16]}…`" if facts.sha256 else "measured on none yet"
            yield f"| `{path}` | {facts.lines:,} | {digest} |"
        yield ""


def inside(page: str, folder: Path) -> str:
    """A page of `folder` below docs, with its links to files outside docs replaced.

    Raises:
        FileNotFoundError: if there is no such file.
    """

    def replace(link: re.Match[str]) -> str:
        picture, text, name = link.groups()
        target = (folder / name).resolve()
        if target.is_relative_to(DOCS / "reference"):
            return link[0]  # perhaps generated; the site's own check sees to it
        target = target.resolve(strict=True)
        if target.is_relative_to(DOCS):
            return link[0]
        if not picture:
            return f"{text} (`{target.relative_to(ROOT)}`)"
        copy = PAGES / "pictures" / target.name
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(target, copy)
        return f"![{text}]({'../' * len(folder.relative_to(DOCS).parts)}pictures/{copy.name})"

    return _LINK.sub(replace, page)


def lay_out() -> None:
    """Write all pages into a folder that is made anew."""
    shutil.rmtree(PAGES, ignore_errors=True)
    generated = {"commands": commands(), "encoders": encoders(), "tasks": tasks()}
    for name, lines in generated.items():
        _write(PAGES / "reference" / f"{name}.md", "\n".join(lines) + "\n")
    for path in sorted(DOCS.rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        _write(PAGES / path.relative_to(DOCS), inside(page, path.parent))
    for path in sorted(DOCS.rglob("*.ipynb")):
        _notebook(path, PAGES / path.relative_to(DOCS).with_suffix(".md"))


def _notebook(path: Path, page: Path) -> None:
    """Write a notebook as a page, with its pictures beside it."""
    text, resources = MarkdownExporter().from_filename(str(path), {"unique_key": page.stem})
    _write(page, f"This page is the notebook `{path.relative_to(ROOT)}`.\n\n{text}")
    for name, picture in resources["outputs"].items():
        (page.parent / name).write_bytes(picture)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    lay_out()
