"""The PHI sweep: values that may be nowhere are searched in every place where bytes rest (docs/phi_sweep.md)."""
