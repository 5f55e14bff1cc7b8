"""From tables to figures: reads files, trains nothing."""
