"""From samples to batches: targets, preprocessing, resampling, augmentation, streaming."""
