"""What the LLM judge is made of: one call, its prompt, what counts as an answer, and the limits that all workers share."""
