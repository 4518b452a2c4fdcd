"""Pictures and dots in, batches out."""
