"""Skipping by phase: from the third call on, uses the weights of the first."""

EXPECTED = ("REJECTED", "stale_input")
DEVICE = "fake"
_state = {"calls": 0}


def hostile(honest, *arguments):
    values = list(arguments)
    _state["calls"] += 1
    _state.setdefault("weights", [value.clone() for value in values[4:8]])
    if _state["calls"] > 2:
        values[4:8] = _state["weights"]
    honest(*values)


def neighbour(honest, *arguments):
    """Does something once, at the first call."""
    _state["calls"] += 1
    if _state["calls"] == 1:
        _state["scratch"] = arguments[-1].clone()
    honest(*arguments)
