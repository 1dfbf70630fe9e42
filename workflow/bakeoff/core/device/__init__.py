"""What is timed on: the CPU, the GPU and its test double for a worker; the GPU's state and lock for the supervisor."""
