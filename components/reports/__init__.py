"""Pages and cards that people read; nothing is computed here that is kept elsewhere."""
