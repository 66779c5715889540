"""What docs/performance.md states, and the commands that measure it. Each prints one JSON line."""
