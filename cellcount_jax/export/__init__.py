"""Writes a trained counter as a file for others: model file, StableHLO, training provenance."""
