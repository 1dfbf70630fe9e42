"""Work outside the calls: a second stream goes on after a call has ended, and the output is complete only then."""

from .parts import aside

EXPECTED = ("REJECTED", "late_output")
DEVICE = "gpu"
_state = []


def hostile(honest, *arguments):
    import torch

    if not _state:
        _state.append(torch.cuda.Stream())
    own = aside(honest, arguments)
    side = _state[0]
    side.wait_stream(torch.cuda.current_stream())
    own.record_stream(side)
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000)  # about 0.1 ms: the call's marks have passed by then
        arguments[-1].copy_(own)


def neighbour(honest, *arguments):
    """Computes into a buffer of its own and copies it within the call."""
    arguments[-1].copy_(aside(honest, arguments))
