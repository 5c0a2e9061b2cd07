"""Tries what no test names: malformed inputs, whole commands, and faults put into the sources."""
