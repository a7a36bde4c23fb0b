"""Tasks: a data set each, from files to training examples and from predictions to the tables' metrics."""
