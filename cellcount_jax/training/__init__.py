"""Fits the stages of a method."""
