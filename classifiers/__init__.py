"""Output safety classifiers for a pharmacy's LLM answers: rules, a fine-tuned classifier, an LLM judge, and their cascade.

A plain Python library: it imports no Django, and nothing here imports torch to serve.
"""
