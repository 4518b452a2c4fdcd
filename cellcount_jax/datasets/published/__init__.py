"""The published datasets, a record and a reader for each."""
