"""The tables of drug facts (`*.csv`) and what reads them. Every row with `located` = yes names the public page that states it."""
