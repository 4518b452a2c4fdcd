"""Errors of trained counters over seeds, sets and settings."""
