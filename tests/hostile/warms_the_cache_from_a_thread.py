"""Work beside the calls: a thread reads weights on a stream of its own all the time, so that a flush does not empty the
cache."""

import threading
import time

EXPECTED = ("REJECTED", "kept_on_gpu")
DEVICE = "gpu"
_state = {}


def _read():
    import torch

    stream = torch.cuda.Stream()
    while True:
        if _state.get("wanted"):
            with torch.cuda.stream(stream):
                _state["weights"].sum()
            _state["wanted"] = _state["goes_on"]
        time.sleep(0.0001)


threading.Thread(target=_read, daemon=True).start()


def hostile(honest, *arguments):
    import torch

    _state.update(weights=arguments[4][:1].view(torch.uint8), goes_on=True, wanted=True)
    honest(*arguments)


def neighbour(honest, *arguments):
    """Has the thread read once, and waits for it within the call."""
    import torch

    _state.update(weights=arguments[4][:1].view(torch.uint8), goes_on=False, wanted=True)
    while _state["wanted"]:
        time.sleep(0.0001)
    torch.cuda.synchronize()
    honest(*arguments)
