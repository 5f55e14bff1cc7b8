"""Label noise: which class is observed for each sample, given its true class (by_class) or the sample itself (by_sample)."""
