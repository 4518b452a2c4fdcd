"""Pretrained weights: download, and a safe reader of PyTorch checkpoints."""
