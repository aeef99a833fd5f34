"""Text that was written so that no filter reads it."""
