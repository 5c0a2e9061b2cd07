"""What the planner of expert placement reads and writes: loads, plan files, files of engines."""
