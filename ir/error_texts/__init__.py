"""Every text that a user can be shown about wrong input: one file an area, keyed by `area.case`."""
