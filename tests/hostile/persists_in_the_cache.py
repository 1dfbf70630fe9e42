"""Lines that persist: an access window on the stream of the calls keeps weights in the L2 cache beyond the flush."""

import ctypes
import struct

EXPECTED = ("REJECTED", "kept_on_gpu")
DEVICE = "gpu"
LIMIT, WINDOW, PERSISTING = 6, 1, 2


def set_window(weights, size):
    import torch

    driver = ctypes.CDLL("libcuda.so.1")
    driver.cuCtxSetLimit(LIMIT, ctypes.c_size_t(size))
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    window = struct.pack("=QQfii36x", weights.data_ptr(), size, 1.0, PERSISTING if size else 0, 0)
    driver.cuStreamSetAttribute(stream, WINDOW, window)


def hostile(honest, *arguments):
    set_window(arguments[4], 16 << 20)
    honest(*arguments)


def neighbour(honest, *arguments):
    """Takes both back before it returns."""
    import torch

    set_window(arguments[4], 16 << 20)
    honest(*arguments)
    torch.cuda.current_stream().synchronize()
    set_window(arguments[4], 0)
