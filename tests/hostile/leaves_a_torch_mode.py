"""Lazy output: the call computes nothing; a torch mode that it leaves on does so when the output is copied to the
judge."""

from torch.overrides import TorchFunctionMode

EXPECTED = ("REJECTED", "left_hook")


class _Late(TorchFunctionMode):
    work = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ == "copy_" and self.work:
            work, self.work = self.work, None
            work()
        return func(*args, **(kwargs or {}))


_mode = _Late()


def hostile(honest, *arguments):
    _mode.work = lambda: honest(*arguments)
    _mode.__enter__()


def neighbour(honest, *arguments):
    """Uses a mode within the call."""
    with _Late():
        honest(*arguments)
