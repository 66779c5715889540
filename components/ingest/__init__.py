"""Raw images as people have them -> pixels: formats, parts, decoding, the first look, public data, the inbox."""
