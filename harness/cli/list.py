"""`bench list`."""

from typing import Annotated

from harness.cli import completion, options
from harness.cli.console import Rows, show_rows
from harness.cli.options import argument, lookup
from harness.names import pick, value_text


@lookup
def list_(
    what: Annotated[str, argument(help="models, suites, tasks or published.", choices=lambda _: _LISTS)] = "models",
    name: Annotated[str, argument(help="One model, to see its parameters.", choices=completion.MODELS)] = "",
    json: options.Json = False,
) -> None:
    """Show the encoders, suites, tasks or published papers that can be named, or the parameters of one encoder."""
    if name:
        show_rows(_parameters(name), json=json, empty=f"{name} has no parameters")
        return
    rows = pick("list", _LISTS, what)()
    show_rows(rows, json=json)


def _models() -> Rows:
    from harness.encoders.entry import declared
    from harness.encoders.registry import known_encoders

    rows: Rows = [
        {
            "name": entry.name,
            "what": entry.summary,
            "parameters": " ".join(f"{p.name}={value_text(p.default)}" for p in declared(entry)),
        }
        for entry in known_encoders().values()
    ]
    named: dict[str, object] = {
        "name": "hf:<repo-or-folder>",
        "what": "any checkpoint on the hub or in a folder",
        "parameters": "pooling=",
    }
    return [*rows, named]


def _parameters(name: str) -> Rows:
    from harness.encoders.entry import declared
    from harness.encoders.registry import known_encoders, resolve

    checkpoint = name.partition(":")[0] == "hf"
    entry = resolve("hf:checkpoint").entry if checkpoint else pick("model", known_encoders(), name)
    return [
        {
            "parameter": p.name,
            "default": value_text(p.default),
            "values": " ".join(p.choices) or p.bounds,
            "what": p.help,
        }
        for p in declared(entry)
    ]


def _suites() -> Rows:
    from harness.tasks.suites import SUITES

    return [{"suite": name, "tasks": " ".join(tasks)} for name, tasks in SUITES.items()]


def _tasks() -> Rows:
    from harness.tasks.suites import TASKS

    return [{"task": t.name, "what": t.title, "protocol": t.protocol, "main score": t.metric} for t in TASKS.values()]


def _published() -> Rows:
    from harness.reports.published import overview

    return overview()


_LISTS = {"models": _models, "suites": _suites, "tasks": _tasks, "published": _published}
