"""Another current stream: what the harness enqueues after the call, marks included, goes elsewhere than the call's
work."""

EXPECTED = ("REJECTED", "kept_on_gpu")
DEVICE = "gpu"
_streams = []


def hostile(honest, *arguments):
    import torch

    honest(*arguments)
    if not _streams:
        _streams.append(torch.cuda.Stream())
    _streams[0].wait_stream(torch.cuda.current_stream())
    torch.cuda.set_stream(_streams[0])


def neighbour(honest, *arguments):
    """Sets the stream back and lets it wait."""
    import torch

    own = torch.cuda.current_stream()
    hostile(honest, *arguments)
    torch.cuda.set_stream(own)
    own.wait_stream(_streams[0])
