"""Benchmarks and a lab's own folder as lists of samples, split by a named protocol."""
