"""What predictions are worth, from arrays alone: AUC, its companions, probabilities, calibration."""
