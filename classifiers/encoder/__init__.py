"""The encoder: what it reads, how it is trained, and the folder that it is served from."""
