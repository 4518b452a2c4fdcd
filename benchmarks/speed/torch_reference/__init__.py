"""The networks of this package in plain PyTorch, to compare outputs and speed with.

One file per network, with the loss of its method and a function that loads flax parameters. Only
PyTorch and NumPy are imported here, never JAX or cellcount_jax: `worker` runs these in a separate
process and, if wanted, under another interpreter. Images and volumes are [B, C, *space] here.
"""
