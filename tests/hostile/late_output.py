"""Unfinished work: what is timed ends before the output is written; a thread started earlier completes it a moment
later."""

import queue
import threading
import time

EXPECTED = ("REJECTED", "late_output")
DEVICE = "fake"
_work = queue.Queue()


def _serve():
    while True:
        delay, output, own = _work.get()
        time.sleep(delay)
        output.copy_(own)
        _work.task_done()


threading.Thread(target=_serve, daemon=True).start()


def hostile(honest, *arguments):
    own = arguments[-1].clone()
    honest(*arguments[:-1], own)
    _work.put((0.004, arguments[-1], own))


def neighbour(honest, *arguments):
    """Has the same thread, and waits for it in every call."""
    own = arguments[-1].clone()
    honest(*arguments[:-1], own)
    _work.put((0.0, arguments[-1], own))
    _work.join()
