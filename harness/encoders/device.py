"""Which device computes."""

from harness.errors import UsageError


def torch_device(name: str) -> str:
    """A torch device string that works here; `auto` is the GPU if there is one.

    Raises:
        UsageError: if torch cannot use the device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise UsageError(f"--device {name}: not usable here ({reason}); use cpu or auto") from error
    return name
