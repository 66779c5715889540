"""The pipeline's stages (one verb a file), the science below them (`gan`) and the tools beside them (`services`)."""
