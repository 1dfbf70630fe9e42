"""The untrusted child: everything that runs in one process with a solution. Nothing here is imported by the
supervisor."""
