"""Writing outside the output: a row before it."""

EXPECTED = ("REJECTED", "wrote_outside_output")


def hostile(honest, *arguments):
    output = arguments[-1]
    honest(*arguments)
    output.as_strided((1, output.shape[1]), output.stride(), output.storage_offset() - output.shape[1]).zero_()


def neighbour(honest, *arguments):
    """Writes the output through a view with strides of its own."""
    output = arguments[-1]
    honest(*arguments)
    view = output.as_strided(output.shape, output.stride(), output.storage_offset())
    view.copy_(view.clone())
