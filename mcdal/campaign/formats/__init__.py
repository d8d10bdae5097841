"""Formats that labels are written in, one a file."""
