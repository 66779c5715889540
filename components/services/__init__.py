"""One folder or file for each outside tool: Ray (`cluster`), MLflow (`tracking`), DVC (`versioning`), S3 (`storage`)."""
