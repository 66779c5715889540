"""Finished pictures: what is done to samples before they are shown, and what their files say."""
