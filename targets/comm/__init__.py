"""Communication placement: which way the traffic of experts takes, and what the others cost."""
