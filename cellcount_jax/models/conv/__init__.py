"""Convolutions that are fast on CPUs, behind the signature of an ordinary convolution."""
