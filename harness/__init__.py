"""Reproducible evaluation of sentence embeddings: the SimCSE paper's methods, protocols and numbers.

    import harness

    results = harness.evaluate("minilm", suite="mini")
    results.frame()

Importing this package loads neither torch nor pandas; they are imported when a function first needs them.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if os.name == "nt":
    raise ImportError("simcse-bench needs the file locks of POSIX, which Windows lacks; use WSL 2, which is Linux")

if TYPE_CHECKING:
    from harness import plot
    from harness.api import compare, evaluate, explain, load_encoder
    from harness.encoders.protocol import Encoder
    from harness.integrations.mteb import as_mteb, mteb_tasks
    from harness.names import EncoderCard, Spec
    from harness.results.collection import Results, load_results
    from harness.tasks.suites import SUITES, TASKS

_HOME = {
    "as_mteb": "harness.integrations.mteb",
    "compare": "harness.api",
    "evaluate": "harness.api",
    "explain": "harness.api",
    "load_encoder": "harness.api",
    "Encoder": "harness.encoders.protocol",
    "EncoderCard": "harness.names",
    "Spec": "harness.names",
    "Results": "harness.results.collection",
    "mteb_tasks": "harness.integrations.mteb",
    "load_results": "harness.results.collection",
    "SUITES": "harness.tasks.suites",
    "TASKS": "harness.tasks.suites",
}
__all__ = [
    "SUITES",
    "TASKS",
    "Encoder",
    "EncoderCard",
    "Results",
    "Spec",
    "as_mteb",
    "compare",
    "evaluate",
    "explain",
    "load_encoder",
    "load_results",
    "mteb_tasks",
    "plot",
]


def __getattr__(name: str) -> Any:
    if name == "plot":  # a module of functions, one for each figure
        return import_module("harness.plot")
    if name not in _HOME:
        raise AttributeError(f"module 'harness' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        from harness.errors import missing_torch

        if (said := missing_torch(error)) is None:
            raise
        raise said from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
