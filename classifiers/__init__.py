"""Output safety classifiers for a pharmacy's LLM answers: rules, a fine-tuned classifier, an LLM judge, and their cascade.

A plain Python library: it imports no Django, and nothing here imports torch to serve.
"""

import os

# From 1.29 on, ONNX Runtime reports model and machine to its makers unless this is set before it starts, and keeps an identifier
# in the user's cache folder. What handles patients' words speaks to nobody unasked.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
