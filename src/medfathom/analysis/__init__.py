"""Results -> verdicts: does depth or parameter count predict AUC?"""
