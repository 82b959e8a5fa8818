"""Measurements, started by `make bench-*`.

Here belongs what prints seconds and bytes. Not here: anything that a test or a definition needs.
"""
