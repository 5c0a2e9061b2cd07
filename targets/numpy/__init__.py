"""The NumPy target: the plan that the executor runs."""
