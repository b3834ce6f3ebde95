"""What optuna-dashboard shows of a study: the server, notes, diagnoses, pictures."""
