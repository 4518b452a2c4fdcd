"""Pretrained weights: a safe reader of PyTorch checkpoints."""
