"""Fits the stages of any method: input pipeline, step, optimizer, model selection, the run."""
