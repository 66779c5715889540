"""What images are worth beside real ones: distances, variety, copies, and the nets that see them."""
