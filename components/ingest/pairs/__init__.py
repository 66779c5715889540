"""Pictures in pairs: how they lie on a disk, which belong together, and the pixels of both."""
