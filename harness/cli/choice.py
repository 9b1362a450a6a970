"""Options that say which encoders fill the cells of a paper's tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.cli.options import parse_seeds
from harness.errors import UsageError
from harness.names import pick

if TYPE_CHECKING:
    from harness.reports.targets import Choice

_OWN_OPTION = {"backbone": "--backbone", "seed": "--seeds", "fit": "--fit"}


def choice_of(
    backbone: str | None, seeds: str, texts: Mapping[str, str], fit: str, parameters: Sequence[str] | None
) -> "Choice":
    """What the options say of the encoders that fill a paper's cells.

    Raises:
        UsageError: if --seeds or --set is malformed, or --set names a method or parameter that does not exist.
    """
    from harness.reports.targets import Choice

    return Choice(
        backbone=backbone,
        seeds=parse_seeds(seeds),
        texts={name: text for name, text in texts.items() if text},
        fit=fit,
        settings=dict(_setting(text) for text in parameters or ()),
    )


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    method, colon, parameter = name.rpartition(":")
    if not (parameter and value) or (colon and not method):
        raise UsageError(f"--set {text}: expected name=value or METHOD:name=value, for instance --set dev=sts-b")
    if parameter in _OWN_OPTION:
        raise UsageError(f"--set {text}: {parameter} has an option of its own; use {_OWN_OPTION[parameter]}")
    _check_known(text, method, parameter, value)
    return name, value


def _check_known(text: str, method: str, parameter: str, value: str) -> None:
    """That the method, or else one that is trained, has the parameter and can have the value."""
    from harness.encoders.entry import declared
    from harness.encoders.registry import fill, known_encoders  # loads torch: only --set waits for it
    from harness.reports.match import OWN_TEXT

    known = known_encoders()
    try:
        owners = [pick("method", known, name) for name in ([method] if method else OWN_TEXT)]
        having = [entry for entry in owners if parameter in {own.name for own in declared(entry)}]
        for entry in having or owners[:1]:
            fill(entry, {parameter: value})
    except UsageError as error:
        raise UsageError(f"--set {text}: {error}") from error
