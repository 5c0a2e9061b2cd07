"""Model files and published configurations, shipped as package data."""
