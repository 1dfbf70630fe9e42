"""Work on a side stream: the call's own stream does not wait for it, so what is timed ends before the output is
written."""

EXPECTED = ("REJECTED", "late_output")
DEVICE = "gpu"
_streams = []


def _side():
    import torch

    if not _streams:
        _streams.append(torch.cuda.Stream())
    side = _streams[0]
    side.wait_stream(torch.cuda.current_stream())
    return side


def hostile(honest, *arguments):
    import torch

    with torch.cuda.stream(_side()):
        honest(*arguments)


def neighbour(honest, *arguments):
    """Uses the same side stream, and makes the call's stream wait for it."""
    import torch

    side = _side()
    with torch.cuda.stream(side):
        honest(*arguments)
    torch.cuda.current_stream().wait_stream(side)
