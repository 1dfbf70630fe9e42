"""What several attacks take, so that a file holds its attack alone; a copy stands beside each in its solution."""

import contextlib
import ctypes
import inspect
import os
from pathlib import Path

_seen = {}


def harness():
    """The open command and the channel, from the local variables of whoever called."""
    command = channel = None
    frame = inspect.currentframe()
    while frame is not None and (command is None or channel is None):
        for value in tuple(frame.f_locals.values()):
            command = value if isinstance(value, dict) and {"do", "token"} <= value.keys() else command
            channel = value if type(value).__name__ == "Channel" else channel
        frame = frame.f_back
    return command, channel


def answer(channel, command, **said):
    """Answer an open command in the worker's place, with the command's own token."""
    channel.send({"say": "done", "id": command["id"], "token": command["token"], **said})


def plan_of_the_run():
    return next(path for path in Path(__file__).resolve().parents if path.name == "scratch").parent / "config.json"


def call(name, *arguments):
    """A function of the C library, by native code, of which no audit hook hears; OSError where it is refused."""
    result = getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def clone(*flags):
    """Fork by the system's own call, whose flags decide what the child shares; 17 is the signal of its end."""
    return call("syscall", {"x86_64": 56, "aarch64": 220}[os.uname().machine], sum(flags, 17), 0, 0, 0, 0)


def child():
    """A process that does nothing, waited for."""
    made = os.fork()
    if made == 0:
        os._exit(0)
    os.waitpid(made, 0)


def remembered(key, honest, arguments):
    """Answer a key that was met before with what was answered then."""
    if key not in _seen:
        honest(*arguments)
        _seen[key] = arguments[-1].clone()
    arguments[-1].copy_(_seen[key])


def aside(honest, arguments):
    """A right output in memory of its own, which is no output yet."""
    own = arguments[-1].clone()
    honest(*arguments[:-1], own)
    return own


@contextlib.contextmanager
def pipe(said=b""):
    """Both ends of a pipe of its own, in which something waits."""
    reading, writing = os.pipe()
    os.write(writing, said)
    yield reading, writing
    os.close(reading)
    os.close(writing)
