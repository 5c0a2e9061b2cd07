"""What kernels, transfers and memory cost on a machine, and on whose word. See docs/costs.md."""
