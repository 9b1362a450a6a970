"""Other people's encoders: objects of the user's program, methods of other packages, and the border to their code.

Whatever that code raises becomes one sentence, and what it changed for the whole process is put back.
"""

import hashlib
import json
import locale
import logging
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import numpy as np

from harness import files
from harness.data.named_texts import file_named, name_by_content
from harness.encoders.context import Context
from harness.encoders.entry import Built, EncoderEntry, declared
from harness.encoders.protocol import Embeddings, Encoder, Releasable, Transductive
from harness.errors import BenchError, EncoderError, UsageError
from harness.names import EncoderCard, Spec, Value

_PROBE = "a sentence that shows how long a vector is"
_LONGEST = 300  # characters of a message; some hold a whole configuration


@contextmanager
def foreign(what: str, doing: str) -> Iterator[None]:
    """Run code that is not ours. BENCH_DEBUG in the environment prints the traceback of what it raises to stderr.

    What it changed for the whole process is put back afterwards: one plug-in must not change how the next encoder
    computes. A process that it forked ends here.

    Args:
        what: the encoder or plug-in whose code it is.
        doing: the purpose of the call, e.g. `encoding`.

    Raises:
        EncoderError: in place of any exception that is not one of ours already, SystemExit included; that one is its
            cause. KeyboardInterrupt passes.
    """
    try:
        with _kept():
            yield
    except (BenchError, KeyboardInterrupt):
        raise
    # As broad as this only here: the code is not ours, so it can raise anything, and one broken encoder must not take
    # the others of a run with it.
    except BaseException as error:
        if os.environ.get("BENCH_DEBUG"):
            traceback.print_exception(error)
        raise EncoderError(
            f"{what}: {doing} failed with {_description(error)}; BENCH_DEBUG=1 shows the traceback"
        ) from error


@contextmanager
def _kept() -> Iterator[None]:
    """Put back what the block changes for everybody, and end a process that was forked in it and leaves it."""
    process, before = os.getpid(), _settings()
    streams = {}
    for fd in (1, 2):
        with suppress(OSError):  # it is closed
            streams[fd] = os.dup(fd)
    errors = {id(one) for one in warnings.filters}
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(1)
        for fd, copy in streams.items():
            os.dup2(copy, fd)
            os.close(copy)
        # Imports add filters too, which stay.
        kept = [one for one in warnings.filters if one[0] != "error" or id(one) in errors]
        cast(list[Any], warnings.filters)[:] = kept
        for name, (value, change) in _settings().items():
            first = before[name][0] if name in before else _first(name, value)
            if first is not None and value != first:
                with suppress(OSError, ValueError):  # a folder that is gone; signals outside the main thread
                    change(first)
        for name, fd in (("stdout", 1), ("stderr", 2)):
            if getattr(getattr(sys, name), "closed", False) and fd in streams:
                setattr(sys, name, open(fd, "w", errors="backslashreplace", closefd=False))


def _settings() -> dict[str, tuple[Any, Callable[[Any], object]]]:
    """What foreign code can change for everybody: each value (None: there is none), and the function that sets it."""
    found: dict[str, tuple[Any, Callable[[Any], object]]] = {
        "recursion limit": (sys.getrecursionlimit(), sys.setrecursionlimit),
        "working directory": (_working_directory(), os.chdir),
        "environment": (dict(os.environ), _set_environment),
        "locale": (locale.setlocale(locale.LC_ALL), partial(locale.setlocale, locale.LC_ALL)),
        "numpy's errors": (np.geterr(), lambda errors: np.seterr(**errors)),
        "logging": (logging.root.manager.disable, logging.disable),
    }
    for name in ("stdout", "stderr", "excepthook"):
        found[name] = (getattr(sys, name), partial(setattr, sys, name))
    for number in (signal.SIGINT, signal.SIGTERM):
        found[number.name] = (signal.getsignal(number), partial(signal.signal, number))
    if (torch := sys.modules.get("torch")) is not None:
        found |= {
            "dtype": (torch.get_default_dtype(), torch.set_default_dtype),
            "device": (torch.get_default_device(), torch.set_default_device),
            "gradients": (torch.is_grad_enabled(), torch.set_grad_enabled),
            "threads": (torch.get_num_threads(), torch.set_num_threads),
            "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.use_deterministic_algorithms),
            "products": (torch.get_float32_matmul_precision(), torch.set_float32_matmul_precision),
        }
    return found


def _first(name: str, value: Any) -> Any:
    """A setting of torch as it is when torch has just been imported, which the block did."""
    import torch

    first = {"dtype": torch.float32, "device": torch.device("cpu"), "gradients": True, "deterministic": False}
    return (first | {"products": "highest"}).get(name, value)


def _working_directory() -> str | None:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return None


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _description(error: BaseException) -> str:
    """Type and message in one printable line, even where the exception cannot say its own message."""
    try:
        message = _printable(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as second:  # SystemExit among them
        message = f"a message that cannot be read ({type(second).__name__})"
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST]}…"
    name = _printable(type(error).__name__)
    return f"{name}: {message}" if message else name


def _printable(text: str) -> str:
    """Foreign text in one line, without control characters that a terminal would obey."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


class ForeignEncoder:
    """Somebody else's encoder under a card that says what decides its vectors."""

    def __init__(self, encode: Callable[[Sequence[str]], Embeddings], card: EncoderCard, owner: object = None) -> None:
        """Take the function that encodes, and the object that it is of, which may be cheap and may have weights."""
        self.card, self._encode, self._owner = card, encode, owner
        self.is_cheap = bool(getattr(owner, "is_cheap", False))

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """Whatever the function gives, which is checked where it is used."""
        return self._encode(sentences)

    def release(self) -> None:
        """Drop the weights where the owner can."""
        if isinstance(self._owner, Releasable):
            self._owner.release()


class _ForeignMethod:
    """Somebody else's method that is fitted on each task, under such a card."""

    def __init__(self, method: Transductive, card: EncoderCard) -> None:
        self.card, self._method = card, method

    def fit_target(self, sentences: Sequence[str], /) -> Encoder:
        """As the method itself."""
        fitted = self._method.fit_target(sentences)
        return ForeignEncoder(lambda texts: fitted.encode(texts), self.card, fitted)


def as_encoder(model: Any, name: str | None = None, fingerprint: str | None = None) -> Encoder | Transductive:
    """Wrap an object of the user's program.

    Args:
        model: an object with a `card` and `encode` (returned as it is), one with `encode(list of str)` such as a
            SentenceTransformer, one with `transform(list of str)` such as a fitted scikit-learn pipeline, or a function
            from a list of texts to n vectors.
        name: of the encoder in results; by default that of its type. Use letters, digits, `.`, `_` and `-`.
        fingerprint: a text that changes whenever the object's vectors change, e.g. a version or a digest of its
            weights. With it, vectors are kept in the embedding cache; without it, nothing is cached.

    Raises:
        UsageError: if the object is none of these, or the name has other characters.
        EncoderError: if it fails on a sentence, or returns no matrix.
    """
    if isinstance(getattr(model, "card", None), EncoderCard):
        return model  # type: ignore[no-any-return]
    encode = next(
        (f for f in (getattr(model, "encode", None), getattr(model, "transform", None), model) if callable(f)), None
    )
    kind = type(model).__name__
    if encode is None or isinstance(model, type):
        raise UsageError(
            f"{kind}: cannot be evaluated, expected a specification such as 'minilm', an object with encode(texts) or "
            "transform(texts), or a function from a list of texts to an array"
        )
    name = name or (model.__name__ if kind == "function" and model.__name__ != "<lambda>" else kind).lower()
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise UsageError(f"name {name!r}: expected letters, digits, '.', '_' and '-'; give another with name=")
    with foreign(name, "encoding one sentence"):
        width = as_matrix(encode([_PROBE])).shape[-1]
    content = {"method": name, "fingerprint": fingerprint} if fingerprint else {}
    card = EncoderCard(name=name, method=name, dim=width, content=content)
    return ForeignEncoder(lambda texts: as_matrix(encode(list(texts))), card)


def as_matrix(x: Any) -> Embeddings:
    """(n, d) float32 from an array, a list of vectors, a torch tensor, or a scipy sparse matrix."""
    if hasattr(x, "toarray"):
        x = x.toarray()
    elif hasattr(x, "detach"):
        x = x.detach().cpu().float().numpy()
    matrix: Embeddings = np.ascontiguousarray(x, dtype=np.float32)
    return matrix


def plugged(entry: EncoderEntry, point: EntryPoint) -> EncoderEntry:
    """The entry of another package: its encoders' cards have its name and version and the digests of given files."""
    package = {"package": point.dist.name, "version": point.dist.version} if point.dist else {"package": point.value}

    def build(spec: Spec, chosen: Any, context: Context) -> Built:
        from harness.encoders.transformer import TransformerEncoder

        given = _given_files(entry, chosen, context.cache_dir)
        named = {key: _content_and_name(path, context.cache_dir) for key, path in given.items()}
        built = entry.build(
            spec.replaced(**{key: name for key, (_, name) in named.items() if key in spec.given}),
            replace(chosen, **{key: str(path) for key, path in given.items()}),
            context,
        )
        if not isinstance(getattr(built, "card", None), EncoderCard):
            return built  # which is refused where it is to be used
        shown = {str(path): named[key][1] for key, path in given.items()}
        own = Spec.parse(built.card.name)
        card = replace(
            built.card,
            name=str(Spec(own.name, _without_paths(own.given, shown))),
            parameters=_without_paths(built.card.parameters, shown),
            content=_without_paths(built.card.content, shown),
            plugin={**package, **{key: digest for key, (digest, _) in named.items()}},
        )
        if isinstance(built, TransformerEncoder):  # shares its passes with others of its checkpoint
            built.card = card
            return built
        if isinstance(built, Transductive):
            return _ForeignMethod(built, card)
        return ForeignEncoder(lambda texts: built.encode(texts), card, built)

    return replace(entry, build=build)


def _given_files(entry: EncoderEntry, chosen: Any, cache_dir: Path) -> dict[str, Path]:
    """The files and folders among the values of parameters; a file also by the name that records have of it."""
    free = {one.name for one in declared(entry) if not one.choices}
    found = {}
    for key, value in asdict(chosen).items():
        if not isinstance(value, str) or not value or key not in free:
            continue
        path = Path(value).expanduser()
        named = None if path.exists() else file_named(value, cache_dir)
        if named is not None or path.is_file() or (path.is_dir() and "/" in value):
            found[key] = named or path
    return found


def _content_and_name(path: Path, cache_dir: Path) -> tuple[str, str]:
    """The digest of a file or folder, and what names and records have in the place of its path."""
    if path.is_file():
        digest = files.sha256(path)
        return digest, name_by_content(path, digest, digest, cache_dir)
    digest = hashlib.sha256(json.dumps(files.digests(path), sort_keys=True).encode()).hexdigest()
    return digest, f"{path.resolve().name}@{digest[:12]}"


def _without_paths(values: Mapping[str, Value | None], shown: Mapping[str, str]) -> dict[str, Value | None]:
    return {key: shown.get(value, value) if isinstance(value, str) else value for key, value in values.items()}
