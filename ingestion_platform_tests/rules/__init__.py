"""Rules, as plain folds."""
