"""The trusted side: runs the block, starts and ends its children, keeps the time, and has outputs judged. It imports no
solution."""
