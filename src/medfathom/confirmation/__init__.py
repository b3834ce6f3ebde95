"""A confirmation: its choice, its workers, what they leave, and what that is worth on the test split.

Reading order: find, openings, choice, jobs (what is trained) -> worker, record, predictions, pictures,
grad_cam (one model) -> summary, results (all of them) -> paired, comparison, efficiency -> words, card.
"""
