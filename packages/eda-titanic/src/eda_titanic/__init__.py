"""An analysis report for any table, honest models for it, and who survived the Titanic."""
