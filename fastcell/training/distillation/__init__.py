"""Distillation, in which a trained network teaches a small one: teacher, choice of the student, scores of both."""
