"""One file for each outside tool: Ray (`cluster`), MLflow (`tracking`), DVC (`versioning`)."""
