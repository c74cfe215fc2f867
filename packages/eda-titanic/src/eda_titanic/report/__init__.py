"""The analysis of any table as one page that opens offline."""
