"""Files of raw data: of which kind each is, and the images in folders, archives, arrays and Parquet files."""
