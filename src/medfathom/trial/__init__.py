"""One trial as a plain function: no Ray, no Optuna.

Reading order: trial, fit, feeding, inputs, rows; the others answer one question each.
"""
