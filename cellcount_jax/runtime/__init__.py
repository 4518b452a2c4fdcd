"""The only rooms that know devices, Orbax and log files."""
