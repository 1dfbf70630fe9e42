"""Unfinished work: what is timed ends before the output is written; a thread started earlier completes it."""

import queue
import threading

EXPECTED = ("REJECTED", "late_output")
DEVICE = "fake"
_work = queue.Queue()


def _serve():
    while True:
        honest, arguments = _work.get()
        honest(*arguments)
        _work.task_done()


threading.Thread(target=_serve, daemon=True).start()
_calls = []


def hostile(honest, *arguments):
    _calls.append(1)
    _work.put((honest, arguments))
    if len(_calls) == 1:
        _work.join()


def neighbour(honest, *arguments):
    """Has the same thread, and waits for it in every call."""
    _work.put((honest, arguments))
    _work.join()
