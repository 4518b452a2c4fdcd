"""The only place that knows devices, checkpoint storage, processes and log files."""
