"""Dots under edit: records, undo, journal, proposals, queue, agreement; plain Python without Qt."""
