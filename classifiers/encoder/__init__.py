"""The encoder and the head on it: what they read, how the encoder is trained, and the folder that they are served from."""
