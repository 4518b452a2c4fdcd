"""Readers of picture files, one family of formats a file; the door is `data.images`."""
