"""The errors that a user can act on. Their message is one sentence: place, found, expected, what to do."""


class BenchError(Exception):
    """Ours: the command line prints the message and no traceback. Anything else is a bug and keeps its traceback."""

    exit_code = 2


class UsageError(BenchError):
    """An unknown name, parameter or option, or a configuration that cannot work."""


class DataError(BenchError):
    """A data file that is missing, damaged, or not what the manifest says."""


class EncoderError(BenchError):
    """An encoder that broke its promise, or could not be built. The other cells of a run are kept."""

    exit_code = 1


class TaskError(BenchError):
    """A task that has no defined score, for instance a constant prediction. The other cells of a run are kept."""

    exit_code = 1


class ResultError(BenchError):
    """A result file that cannot be read or written."""


class WriteError(BenchError):
    """A file or folder that cannot be written: a full disk, missing permission, a read-only file system."""


class ReadError(BenchError):
    """A file or folder that may not be read, or that the disk does not give."""


_NEEDS_TORCH = {"torch", "transformers", "tokenizers"}


def missing_torch(error: ModuleNotFoundError) -> UsageError | None:
    """The sentence for a missing package of the extra `torch`, or None where another module is missing."""
    if (error.name or "").split(".")[0] not in _NEEDS_TORCH:
        return None
    return UsageError(
        f"{error.name} is not installed, and encoders, probes and training need it; "
        "install it with: pip install 'simcse-bench[torch]'"
    )
