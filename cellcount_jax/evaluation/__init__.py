"""Errors of counts and points: metrics, matching, baselines, and the evaluation of a counter."""
