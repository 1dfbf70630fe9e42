"""bakeoff: a reproducible bake-off of FP8 mixture-of-experts GPU kernels.

Rooms, each importing only those before it:
errors, files -> traces -> moe -> verify -> build -> config, plan -> measure -> profile -> stats -> report -> cli.
"""

__version__ = "0.2.0"
