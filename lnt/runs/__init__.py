"""From experiments to tables: one road for a single run, a job of a sweep, and the Python API."""
