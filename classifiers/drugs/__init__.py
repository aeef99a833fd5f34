"""Drug facts: the tables, what applies to an exchange, and whether the response approves it."""
