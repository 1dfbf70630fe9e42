"""Work beside the calls: a graph that waits and then fills the cache is replayed on a side stream, past the call's
end."""

EXPECTED = ("REJECTED", "kept_on_gpu")
DEVICE = "gpu"
_state = {}


def _replay():
    """The side stream, on which the graph has been enqueued after what the call's stream has so far."""
    import torch

    if "graph" not in _state:
        side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        # Of its own: a graph keeps addresses, and inputs are somewhere else in the next cell.
        data, copy = torch.ones(2, 1 << 24, dtype=torch.uint8, device="cuda")
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=side):
            for _ in range(4):
                torch.cuda._sleep(100_000)
                copy.copy_(data)
        _state.update(graph=graph, side=side, kept=(data, copy))
    side = _state["side"]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        _state["graph"].replay()
    return side


def hostile(honest, *arguments):
    honest(*arguments)
    _replay()


def neighbour(honest, *arguments):
    """Lets the call's stream wait for the graph."""
    import torch

    honest(*arguments)
    torch.cuda.current_stream().wait_stream(_replay())
