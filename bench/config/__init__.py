"""What users write: suites, targets and the text of models and recipes, read strictly."""
