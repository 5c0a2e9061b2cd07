"""Passes, one file each, the pipeline that orders them and the driver that runs them."""
