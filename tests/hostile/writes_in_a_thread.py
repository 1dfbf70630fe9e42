"""Work on a thread: returns at once and lets a thread finish the output."""

import threading
import time

EXPECTED = ("REJECTED", "left_thread")


def hostile(honest, *arguments):
    def later():
        time.sleep(0.5)
        honest(*arguments)

    threading.Thread(target=later, daemon=True).start()


def neighbour(honest, *arguments):
    """Computes in a thread and waits for it."""
    thread = threading.Thread(target=honest, args=arguments)
    thread.start()
    thread.join()
