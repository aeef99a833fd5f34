"""The tables of drug facts (`*.csv`). Every row with `located` = yes names the public page that states it."""
